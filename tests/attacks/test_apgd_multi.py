"""Auto-PGD by way of larger balls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.attacks import Apgd, ApgdMulti, Target, ThreatModel
from cloakify.attacks.apgd_multi import schedule
from cloakify.onnxfile import open_model
from tests.support.classifiers import mlp_classifier, target_of, threat_of

SAMPLES = Path(__file__).parents[2] / "sample_models"
SMALL = target_of(mlp_classifier(3, features=6, classes=4), batch_size=4)


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples of which the first is misclassified."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 6), np.float32)
    y = SMALL.logits(x).argmax(axis=1)
    y[0] = (y[0] + 1) % 4
    return x, y, rng.permutation(100)[:count]


@given(st.integers(1, 500))
def test_all_steps_are_taken(steps: int) -> None:
    parts = schedule(steps)
    assert parts.direct + 2 * parts.wide + parts.last == steps and parts.last >= 1
    assert all(parts) or parts == (0, 0, steps)


def by_hand(
    target: Target, sample: tuple[np.ndarray, ...], threat: ThreatModel, steps: int, restarts: int
) -> np.ndarray:
    """One sample through the balls one after the other, until it is misclassified."""
    clean, label, _ = sample
    found = [Apgd(steps=steps // 6).run(target, *sample, threat)]
    for seed in range(restarts):
        if not target.correct(found[-1], label)[0]:
            return found[-1]
        wide = Apgd(steps=steps // 4, stop_early=False, seed=seed)
        at = wide.run(target, *sample, threat.with_eps(3 * threat.eps))
        ball = threat.with_eps(2 * threat.eps)
        at = wide.resume(target, *sample, ball, ball.project(at, clean))
        last = Apgd(steps=steps - steps // 6 - 2 * (steps // 4))
        found.append(last.resume(target, *sample, threat, threat.project(at, clean)))
    if not target.correct(found[-1], label)[0]:
        return found[-1]
    return max(found[1:], key=lambda point: target.evaluate(point, label).loss[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=40)
@given(seed=st.integers(0, 1000), steps=st.integers(6, 30), restarts=st.integers(1, 3))
def test_what_stands_goes_through_all_balls(
    norm: str, seed: int, steps: int, restarts: int
) -> None:
    x, y, index = drawn(seed, 7)
    threat = threat_of(SMALL, norm, 0.05)
    found = ApgdMulti(steps=steps, restarts=restarts).run(SMALL, x, y, index, threat)
    np.testing.assert_array_equal(found[0], x[0])
    for row in range(1, 7):
        sample = x[row : row + 1], y[row : row + 1], index[row : row + 1]
        expected = by_hand(SMALL, sample, threat, steps, restarts)
        np.testing.assert_allclose(found[row], expected[0], rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), steps=st.integers(6, 30))
def test_what_is_driven_comes_back_from_the_highest_of_all_runs(seed: int, steps: int) -> None:
    x, y, index = drawn(seed, 7)
    threat = threat_of(SMALL, "l2", 0.05)
    runs = [
        ApgdMulti(steps=steps, restarts=1, stop_early=False, seed=each).run(
            SMALL, x, y, index, threat
        )
        for each in range(3)
    ]
    found = ApgdMulti(steps=steps, restarts=3, stop_early=False).run(SMALL, x, y, index, threat)
    highest = np.max([SMALL.evaluate(each, y).loss for each in runs], axis=0)
    np.testing.assert_allclose(SMALL.evaluate(found, y).loss, highest, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(seed=st.integers(0, 1000), steps=st.integers(1, 30), onward=st.sampled_from([None, 2]))
def test_what_explores_tells_what_falls(
    norm: str, seed: int, steps: int, onward: int | None
) -> None:
    """A sample that falls is among those that may, and is driven no less far."""
    x, y, index = drawn(seed, 9)
    threat = threat_of(SMALL, norm, 0.05)
    stopped = ApgdMulti(steps=steps).run(SMALL, x, y, index, threat)
    driven, may = ApgdMulti(steps=steps, stop_early=False).explore(
        SMALL, x, y, index, threat, onward
    )
    fell = ~SMALL.correct(stopped, y)
    fell[0] = False
    assert (may | ~fell).all()
    if fell.any():
        losses = [SMALL.evaluate(each[fell], y[fell]).loss for each in (driven, stopped)]
        assert (losses[0] >= losses[1] - 1e-5).all()
    assert threat.distance(driven, x).max() <= 0.05 * (1 + 1e-5)


def test_it_finds_in_l2_what_plain_steps_miss_of_a_model_trained_in_linf() -> None:
    target = target_of(open_model(SAMPLES / "fashion_robust.onnx").load_weights(), batch_size=16)
    with np.load(SAMPLES / "test.npz") as file:
        x, y = file["x"][:60], file["y"][:60]
    x = x.reshape(len(x), *target.spec.sample_shape)
    threat, index = threat_of(target, "l2", 1.2), np.arange(60)
    left = [
        target.correct(attack.run(target, x, y, index, threat), y).sum()
        for attack in (Apgd(steps=100), ApgdMulti(steps=100))
    ]
    assert left[1] <= 0.6 * left[0]
    assert left[0] > 5
