"""`--score auto` compares rankings under attack, and answers attacks on its own mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.attacks import Fgsm
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import open_experiment
from cloakify.masking.curve import MaskCurve
from cloakify.masking.mask_choice import best_size
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden


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

    def second_round_costs_too_much(
        curve: MaskCurve, drop: float, *, conservative: bool
    ) -> int | None:
        # Four scores in the first round, two of them in three ways.
        allowed.append(drop if len(allowed) < 8 else -1.0)
        return best_size(curve, allowed[-1], conservative=conservative)

    monkeypatch.setattr("cloakify.hardening.mask_search.best_size", second_round_costs_too_much)
    setting = HardenSetting(
        limit=120,
        evaluation_steps=2,
        device="cpu",
        eps=4 / 255,
        max_accuracy_drop=0.2,
        rounds=3,
        write_anyway=True,
    )
    output = tmp_path / "h.onnx"
    result = harden(samples / "fashion_wide.onnx", samples / "calib", output, setting)
    assert allowed[8:] == [-1.0] * 6
    assert result.report.mask.score in ("deepcloak", "margin", "greedy", "relaxed")
    assert output.exists()


def test_auto_gains_twice_as_much_as_the_papers_score_within_a_point(
    samples: Path, tmp_path: Path
) -> None:
    """At 8/255, on test images: what withstands FGSM crafted on the source."""
    source = samples / "fashion_pooled.onnx"
    right, moved = {}, {}
    for score in ("deepcloak", "auto"):
        setting = HardenSetting(
            evaluation_steps=1,
            device="cpu",
            eps=8 / 255,
            score=score,
            max_accuracy_drop=0.01,
            write_anyway=True,
        )
        path = harden(source, samples / "calib", tmp_path / f"{score}.onnx", setting).path
        assert path is not None
        right[score], moved[score] = static_accuracy(source, path, samples / "test.npz")
    clean, before = static_accuracy(source, source, samples / "test.npz")
    assert moved["auto"] - before >= 2 * max(0.01, moved["deepcloak"] - before)
    assert right["auto"] >= clean - 0.02


def static_accuracy(source: Path, model: Path, data: Path) -> tuple[float, float]:
    """Return clean accuracy, and that on samples crafted once against the source by FGSM."""
    setting = HardenSetting(eps=8 / 255, device="cpu")
    experiment = open_experiment(open_classifier(source), data, setting, lambda *_: None)
    (batch,) = experiment.dataset.batches(None, len(experiment.dataset))
    x = batch.x.astype(np.float32, copy=False)
    attacked = Fgsm().run(experiment.target(), x, batch.y, batch.index, experiment.threat)
    target = experiment.target(open_classifier(model).model)
    clean = target.correct(x, batch.y)
    return clean.mean(), (clean & target.correct(attacked, batch.y)).mean()
