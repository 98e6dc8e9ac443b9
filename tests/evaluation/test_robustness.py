"""Models compared on the same samples: what is left out gives the verdicts of what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.attacks import Apgd, Attack, Fgsm, Target, ThreatModel
from cloakify.evaluation.robustness import Attacks, compare_targets
from cloakify.evaluation.samples import Samples
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.graph.edit.mask import insert_mask
from cloakify.settings import HardenSetting

SAMPLES = 60


@pytest.fixture(scope="module")
def experiment(samples: Path) -> Experiment:
    setting = HardenSetting(device="cpu", eps=3 / 255, batch_size=7)
    return open_experiment(
        open_classifier(samples / "fashion_pooled.onnx"),
        samples / "test.npz",
        setting,
        lambda *_: None,
    )


@pytest.mark.parametrize("onward", [None, 2])
def test_every_verdict_is_that_of_attacking_every_sample(
    experiment: Experiment, onward: int | None
) -> None:
    """Samples that fell already, or that the same attack failed on before, are not attacked."""
    classifier = experiment.classifier
    mask = np.random.default_rng(0).integers(0, 2, classifier.head.num_features).astype(float)
    masked = insert_mask(classifier.file.model, classifier.head, mask, {})
    targets = [experiment.target(), experiment.target(masked)]
    driven, stopping = Apgd(steps=5, stop_early=False), Apgd(steps=5)
    indices = np.arange(SAMPLES)
    fgsm, threat = Fgsm(), experiment.threat
    batch = experiment.dataset.batch(indices)
    attacks = Attacks(fgsm, driven, stopping, onward)
    results = compare_targets(targets, attacks, threat, Samples.of(batch))
    x, y, index = batch.x.astype(np.float32), batch.y, batch.index
    static = fgsm.run(targets[0], x, y, index, threat)
    transfer, _ = driven.explore(targets[0], x, y, index, threat, onward)
    for number, (target, result) in enumerate(zip(targets, results, strict=True)):
        own = target.correct(stopping.run(target, x, y, index, threat), y)
        transferred, on_static = target.correct(transfer, y), target.correct(static, y)
        np.testing.assert_array_equal(result.clean, target.correct(x, y))
        np.testing.assert_array_equal(result.static, on_static)
        np.testing.assert_array_equal(result.adaptive, own & transferred & on_static)
        expected = own & transferred & on_static if number == 0 else transferred
        np.testing.assert_array_equal(result.transfer, expected)
    # The test says nothing unless samples fell, stood, and differed between the models.
    assert 0 < results[1].adaptive.sum() < results[1].transfer.sum() < SAMPLES


class Still(Attack):
    """Finds nothing."""

    name = "still"
    steps = 1  # type: ignore[assignment]

    def run(
        self, target: Target, x: np.ndarray, y: np.ndarray, index: np.ndarray, threat: ThreatModel
    ) -> np.ndarray:
        return x


def test_what_fools_the_model_from_elsewhere_counts(experiment: Experiment) -> None:
    """An attack that fails on a model's own gradients is no robustness where another succeeds."""
    samples = Samples.of(experiment.dataset.batch(np.arange(SAMPLES)))
    driven, threat = Apgd(steps=5, stop_early=False), experiment.threat
    targets = [experiment.target(), experiment.target()]
    results = compare_targets(targets, Attacks(Fgsm(), driven, Still()), threat, samples)
    crafted = driven.run(targets[0], samples.x, samples.y, samples.index, threat)
    right = targets[1].correct(samples.x, samples.y) & targets[1].correct(crafted, samples.y)
    assert right.sum() < results[1].clean.sum()
    for result in results:
        np.testing.assert_array_equal(result.adaptive, right)


def test_exploring_tells_which_samples_an_early_stop_would_fool(experiment: Experiment) -> None:
    target, threat = experiment.target(), experiment.threat
    (batch,) = experiment.dataset.batches(np.arange(SAMPLES), SAMPLES)
    x, y, index = batch.x.astype(np.float32), batch.y, batch.index
    _, fooled = Apgd(steps=8, stop_early=False).explore(target, x, y, index, threat)
    stopped = Apgd(steps=8).run(target, x, y, index, threat)
    np.testing.assert_array_equal(fooled, ~target.correct(stopped, y))


class Far(Fgsm):
    """Copies as a user may give them: beyond the budget."""

    def run(
        self,
        target: Target,
        x: np.ndarray,
        y: np.ndarray,
        index: np.ndarray,
        threat: ThreatModel,
    ) -> np.ndarray:
        return super().run(target, x, y, index, threat.with_eps(20 * threat.eps))


def test_copies_outside_the_ball_do_not_count_as_attacks(experiment: Experiment) -> None:
    samples = Samples.of(experiment.dataset.batch(np.arange(SAMPLES)))
    others = Apgd(steps=5, stop_early=False), Apgd(steps=5)
    near, far = (
        compare_targets([experiment.target()], Attacks(each, *others), experiment.threat, samples)[
            0
        ]
        for each in (Fgsm(), Far())
    )
    assert far.static.sum() < near.adaptive.sum()
    # Fgsm finds nothing here that the others do not.
    np.testing.assert_array_equal(far.adaptive, near.adaptive)


class Noting(Apgd):
    """Notes which samples it is run on."""

    def __init__(self, **settings: int) -> None:
        super().__init__(**settings)
        self.seen: list[list[int]] = []

    def run(
        self, target: Target, x: np.ndarray, y: np.ndarray, index: np.ndarray, threat: ThreatModel
    ) -> np.ndarray:
        self.seen.append(index.tolist())
        return super().run(target, x, y, index, threat)


def test_what_withstands_all_others_is_attacked_through_steps(experiment: Experiment) -> None:
    samples = Samples.of(experiment.dataset.batch(np.arange(SAMPLES)))
    target, threat, through = experiment.target(), experiment.threat, Noting(steps=5)
    weak = Apgd(steps=1, stop_early=False), Apgd(steps=1)
    (before,) = compare_targets([target], Attacks(Fgsm(), *weak), threat, samples)
    attacks = Attacks(Fgsm(), *weak, through=through)
    (found,) = compare_targets([target], attacks, threat, samples)
    assert through.seen == [np.flatnonzero(before.adaptive).tolist()]
    crafted = Apgd(steps=5).run(target, samples.x, samples.y, samples.index, threat)
    right = before.adaptive & target.correct(crafted, samples.y)
    np.testing.assert_array_equal(found.adaptive, right)
    np.testing.assert_array_equal(found.transfer, right)
    np.testing.assert_array_equal(found.clean, before.clean)
    assert right.sum() < before.adaptive.sum()
