"""The attack steps in the graph against a plain recomputation, sample by sample, in double."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.attacks.apgd import ApgdSettings, checkpoints, run_apgd
from cloakify.attacks.starts import random_on_sphere
from cloakify.data import Preprocessing
from tests.support.classifiers import mlp_classifier, target_of, threat_of

IMAGES = target_of(
    onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 2, 2, 3] x) => (float[N, 3] logits)
        <float[12, 3] w = {0.3, -0.1, 0.2, 0.5, -0.6, 0.9, -0.4, 0.8, -0.7, 0.1, 0.2, -0.3,
                           -0.9, 0.4, 0.6, 0.7, -0.2, 0.1, 0.2, -0.8, 0.5, -0.5, 0.3, 0.9,
                           0.6, -0.3, -0.1, 0.8, 0.1, -0.6, 0.4, 0.7, 0.3, -0.2, 0.5, -0.4}>
        { flat = Flatten(x)  logits = MatMul(flat, w) }"""
    ),
    batch_size=4,
)


def project(x, clean, threat):
    """The ball in data units, then the box."""
    moved = (x - clean) / threat.factor[0]
    if threat.norm == "linf":
        moved = np.clip(moved, -threat.eps, threat.eps)
    else:
        length = np.linalg.norm(moved)
        moved = moved * min(1, threat.eps / length) if length else moved
    return np.clip(clean + moved * threat.factor[0], threat.lower[0], threat.upper[0])


def climb(x, gradient, size, threat):
    slope = gradient * threat.factor[0]
    if threat.norm == "linf":
        return x + size * np.sign(slope) * threat.factor[0]
    # What stands at a bound and would leave the box has no share in the length.
    slope = np.where((x <= threat.lower[0]) & (slope < 0), 0, slope)
    slope = np.where((x >= threat.upper[0]) & (slope > 0), 0, slope)
    return x + size * slope / max(np.linalg.norm(slope), 1e-19) * threat.factor[0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), eps=st.floats(0.01, 2), size=st.floats(0.001, 3))
def test_step_is_projected_steepest_ascent(norm, seed, eps, size):
    rng = np.random.default_rng(seed)
    preprocessing = Preprocessing(2.0, (0.4, 0.6), (0.5, 0.25))
    threat = threat_of(IMAGES, norm, eps, preprocessing=preprocessing)
    pixels = rng.random((3, 2, 2, 3), np.float32)
    clean = preprocessing.to_model(pixels, 1)
    x = threat.project(clean + rng.standard_normal(clean.shape).astype(np.float32), clean)
    y = rng.integers(3, size=3)
    gradient = IMAGES.evaluate(x, y).gradient.astype(np.float64)
    found = IMAGES.step(x, y, clean, threat, size)
    for row in range(3):
        expected = project(climb(x[row], gradient[row], size, threat), clean[row], threat)
        np.testing.assert_allclose(found.x[row], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.logits, IMAGES.logits(x), rtol=1e-5, atol=1e-5)


def plain_apgd(target, clean, y, start, threat, steps, loss):
    """Algorithm 1 of arXiv 2003.01690 for one sample; returns the best point and its loss."""

    def look(x):
        seen = target.evaluate(x[None].astype(np.float32), np.array([y]), loss)
        return float(seen.loss[0]), seen.gradient[0].astype(np.float64)

    marks = [0, *checkpoints(steps)]
    x = previous = start.astype(np.float64)
    value, gradient = look(x)
    best, best_value, best_gradient = x, value, gradient
    history, best_history, sizes = [value], [value], [2 * threat.eps]
    size = sizes[0]
    for k in range(steps):
        ahead = project(climb(x, gradient, size, threat), clean, threat)
        alpha = 1.0 if k == 0 else 0.75
        moved = project(x + alpha * (ahead - x) + (1 - alpha) * (x - previous), clean, threat)
        previous, x = x, moved
        value, gradient = look(x)
        if value > best_value:
            best, best_value, best_gradient = x, value, gradient
        history.append(value)
        best_history.append(best_value)
        if k + 1 in marks:
            last = marks[marks.index(k + 1) - 1]
            rises = sum(history[i + 1] > history[i] for i in range(last, k + 1))
            stuck = last > 0 and sizes[-1] == sizes[-2] and best_history[last] == best_value
            if rises < 0.75 * (k + 1 - last) or stuck:
                size /= 2
                x, gradient = best, best_gradient
            sizes.append(size)
    return best, best_value


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_is_algorithm_1(norm, loss):
    target = target_of(mlp_classifier(3, features=6, classes=4), batch_size=8)
    rng = np.random.default_rng(0)
    x, index = rng.random((12, 6), np.float32), np.arange(12)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, norm, 0.1)
    run = ApgdSettings(loss=loss, steps=30, restarts=1, stop_early=False, seed=5)
    found = run_apgd(target, (x, y, index), threat, run)
    starts = random_on_sphere(x, index, [0] * 12, threat, 5)
    plain = [plain_apgd(target, x[row], y[row], starts[row], threat, 30, loss) for row in range(12)]
    reached = target.evaluate(found, y, loss).loss
    np.testing.assert_allclose(reached, [value for _, value in plain], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, [best for best, _ in plain], atol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 3))
def test_the_first_steps_of_apgd(norm, seed, steps):
    """The first has no inertia, the second has: each point, not only where all of them lead.

    On a linear model, where every step raises the loss and the last point is the best one.
    """
    rng = np.random.default_rng(seed)
    x, index = rng.random((4, 2, 2, 3), np.float32), np.arange(4)
    y = IMAGES.logits(x).argmax(axis=1)
    # Without a box, whose corner all steps would lead to.
    threat = threat_of(IMAGES, norm, 3.0, box=None)
    run = ApgdSettings(loss="margin", steps=steps, restarts=1, stop_early=False, seed=seed)
    found = run_apgd(IMAGES, (x, y, index), threat, run)
    starts = random_on_sphere(x, index, [0] * 4, threat, seed)
    for row in range(4):
        best, _ = plain_apgd(IMAGES, x[row], y[row], starts[row], threat, steps, "margin")
        np.testing.assert_allclose(found[row], best, atol=1e-4)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (20, [4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
        (1, [1]),
    ],
)
def test_checkpoints(steps, expected):
    assert checkpoints(steps) == expected
