"""Losses on logits against plain NumPy in double, sure models included."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloakify.graph.attack_steps.losses import FOR_STEPS, LOSSES, TARGETED
from cloakify.graph.gradient.builder import Builder


def run_loss(
    name: str, logits: np.ndarray, labels: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return loss and gradient as ONNX Runtime computes them in the dtype of the logits."""
    z = gs.Variable("z", logits.dtype, list(logits.shape))
    y, t = (gs.Variable(key, np.int64, [len(logits)]) for key in "yt")
    graph = gs.Graph(inputs=[z, y, t], opset=21, ir_version=10)
    loss, gradient = LOSSES[name](Builder(graph), z, y, t if name in TARGETED else None)
    loss.shape, gradient.shape = [len(logits)], list(logits.shape)
    graph.outputs = [loss, gradient]
    session = ort.InferenceSession(gs.export_onnx(graph).SerializeToString())
    found = session.run(None, {"z": logits, "y": labels, "t": targets})
    return found[0], found[1]


def by_definition(name: str, z: np.ndarray, y: int, t: int) -> np.floating:
    """One sample's loss in the logits' own type, as its source states it."""
    others = np.delete(z, y)
    ranked = np.sort(z)[::-1]
    if name == "ce":
        return np.logaddexp(0.0, np.logaddexp.reduce(others) - z[y])
    if name == "log-odds":
        return np.logaddexp.reduce(others) - z[y]
    if name == "margin":
        return others.max() - z[y]
    if name == "dlr":
        return (others.max() - z[y]) / (ranked[0] - ranked[2] + 1e-12)
    if name == "targeted-margin":
        return z[t] - z[y]
    return (z[t] - z[y]) / (ranked[0] - (ranked[2] + ranked[3]) / 2 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.integers(0, 10_000),
    st.sampled_from([0.1, 1.0, 30.0]),
)
# The first and the third logit are almost equal: a slope of a million.
@example("dlr", 1796, 0.1)
def test_loss_and_gradient(name: str, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((3, 5)) * scale
    labels = rng.integers(0, 5, 3)
    targets = (labels + rng.integers(1, 5, 3)) % 5
    loss, gradient = run_loss(name, logits, labels, targets)
    # Longer numbers than double, so that steps may be short enough where slopes bend at once.
    exact, step = logits.astype(np.longdouble), np.longdouble(1e-9 * scale)
    for i in range(3):
        expected = float(by_definition(name, exact[i], labels[i], targets[i]))
        assert loss[i] == pytest.approx(expected)
        for c in range(5):
            moved = np.zeros(5, np.longdouble)
            moved[c] = step
            above, below = (
                by_definition(name, exact[i] + sign * moved, labels[i], targets[i])
                for sign in (1, -1)
            )
            numeric = float((above - below) / (2 * step))
            assert gradient[i, c] == pytest.approx(numeric, abs=2e-5 * max(1, 1 / scale))


@pytest.mark.parametrize("margin", [-80.0, -40.0, -17.0, -7.5, -6.5, -1.0, 0.0, 5.0, 100.0])
def test_a_sure_model_still_has_a_gradient(margin: float) -> None:
    """In float32 softmax − onehot is exactly 0 from a margin of 17 on."""
    logits = np.array([[-margin, 0.0, -1.0, -30.0]], np.float32)
    y = np.array([0])
    loss, gradient = run_loss("ce", logits, y, y)
    exact = logits.astype(np.float64)[0]
    expected = by_definition("ce", exact, 0, 0)
    assert loss[0] == pytest.approx(expected, rel=2e-4)
    others = np.exp(exact[1:] - np.logaddexp.reduce(exact[1:]))
    slope = np.exp(-np.logaddexp(0.0, exact[0] - np.logaddexp.reduce(exact[1:])))
    assert gradient[0] == pytest.approx(slope * np.concatenate([[-1.0], others]), rel=2e-4)
    # What steps follow is the same gradient without the factor that may underflow further down.
    odds, direction = run_loss(FOR_STEPS["ce"], logits, y, y)
    assert direction[0] == pytest.approx(np.concatenate([[-1.0], others]), rel=1e-5)
    assert odds[0] == pytest.approx(np.log(np.expm1(expected)) if expected < 50 else expected)


@given(st.lists(st.floats(-3e4, 3e4, width=32), min_size=2, max_size=2))
def test_log_odds_order_samples_that_a_model_is_sure_of(margins: list[float]) -> None:
    """Where the cross-entropy is 0 in float32 for both, one is still nearer to being fooled."""
    logits = np.array([[margin, 0.0, -5.0] for margin in margins], np.float32)
    odds, _ = run_loss("log-odds", logits, np.zeros(2, int), np.zeros(2, int))
    if abs(logits[0, 0] - logits[1, 0]) > 1e-2:
        assert (odds[0] > odds[1]) == (logits[0, 0] < logits[1, 0])


def test_samples_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    targets = (labels + 1) % 4
    for name in LOSSES:
        whole = run_loss(name, logits, labels, targets)
        for i in range(6):
            rows = slice(i, i + 1)
            alone = run_loss(name, logits[rows], labels[rows], targets[rows])
            assert np.allclose(whole[0][i], alone[0][0]) and np.allclose(whole[1][i], alone[1][0])
