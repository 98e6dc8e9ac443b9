"""`--score auto` compares rankings under attack, and answers attacks on its own mask."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloakify.masking.curve import MaskCurve
from cloakify.masking.selection import best_size
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


def test_a_round_that_finds_nothing_within_the_budget_leaves_what_was_found(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[float] = []

    def second_round_costs_too_much(curve: MaskCurve, drop: float, *, surely: bool) -> int:
        # Four rankings in the first round.
        allowed.append(drop if len(allowed) < 4 else -1.0)
        return best_size(curve, allowed[-1], surely=surely)

    monkeypatch.setattr("cloakify.workflows.choosing.best_size", second_round_costs_too_much)
    setting = HardenSetting(
        limit=120, evaluation_steps=2, device="cpu", eps=4 / 255, max_accuracy_drop=0.2, rounds=3
    )
    output = tmp_path / "h.onnx"
    result = harden(samples / "fashion_wide.onnx", samples / "calib", output, setting)
    assert allowed[4:] == [-1.0, -1.0]
    assert result.report.mask.score in ("deepcloak", "margin", "greedy", "relaxed")
    assert output.exists()
