"""Choosing a mask says what it is at, also where no model runs."""

from __future__ import annotations

from pathlib import Path

from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden


def test_all_work_of_choosing_a_mask_is_announced(samples: Path, tmp_path: Path) -> None:
    stages: dict[str, tuple[int, int]] = {}

    def told(stage: str, done: int, total: int) -> None:
        stages[stage.partition(" · ")[0]] = (done, total)

    setting = HardenSetting(limit=80, device="cpu", eps=2 / 255, effort="quick", rounds=2)
    path = samples / "fashion_keras.onnx"
    harden(path, samples / "calib", tmp_path / "h.onnx", setting, told)
    ranked = [name for name in stages if name.startswith("ranking features")]
    assert ranked == ["ranking features", "ranking features, round 2"]
    assert "calibrating, round 2" in stages
    assert all(done == total for done, total in (stages[name] for name in ranked))
