"""`--score auto` compares rankings under attack, and answers attacks on its own mask."""

from __future__ import annotations

from pathlib import Path

from cloakify.workflows.harden import harden
from cloakify.workflows.setting import HardenSetting


def test_auto_says_which_ranking_won(samples: Path, tmp_path: Path) -> None:
    setting = HardenSetting(
        limit=120, evaluation_steps=2, device="cpu", eps=4 / 255, mask_ratio=0.3, rounds=2
    )
    stages: list[str] = []
    for name in ("a.onnx", "b.onnx"):
        result = harden(
            samples / "fashion_wide.onnx",
            samples / "calib",
            tmp_path / name,
            setting,
            lambda stage, done, total: stages.append(stage),
        )
        winner = result.report.mask.score
        assert winner is not None
        assert winner.removesuffix(", round 2") in ("deepcloak", "margin", "greedy", "relaxed")
        assert result.report.mask.removed == 940
    assert "comparing masks" in stages and "comparing, round 2" in stages
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
