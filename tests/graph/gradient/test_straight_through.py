"""Gradients straight through steps: those of the same graph with the identity in their place."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import NoGradientError
from cloakify.graph.attack_steps.build import GRADIENT, LABELS, LOGITS, GradientSpec, build_gradient
from cloakify.runtime import Device, Session

STEPS = {"Round": np.rint, "Floor": np.floor, "Ceil": np.ceil, "Sign": np.sign}


def stepped(op: str, v: np.ndarray, w: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> f (float[N, 4] x) => (float[N, 3] y)
        {{ h = MatMul (x, v)  s = {op} (h)  t = Tanh (s)  y = MatMul (t, w) }}"""
    )
    for name, values in (("v", v), ("w", w)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


@settings(max_examples=40, deadline=None)
@given(op=st.sampled_from(sorted(STEPS)), seed=st.integers(0, 2**32 - 1))
def test_against_numpy(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    v, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 5), (5, 3)))
    x = rng.standard_normal((6, 4)).astype(np.float32)
    y = rng.integers(0, 3, 6)
    spec = GradientSpec("x", "y", loss="margin", straight_through=True)
    session = Session(build_gradient(stepped(op, v, w), {"x": x.shape}, spec), Device("cpu"))
    found = session.run({"x": x, LABELS: y}, [LOGITS, GRADIENT])
    h = x @ v
    inner = np.tanh(STEPS[op](h))
    logits = inner @ w
    # What is computed is the model as it is.
    np.testing.assert_allclose(found[LOGITS], logits, rtol=1e-4, atol=1e-5)
    rows = np.arange(6)
    others = np.where(np.arange(3) == y[:, None], -np.inf, logits)
    ahead = np.sort(others, axis=1)[:, -2:]
    slope = np.zeros_like(logits)
    slope[rows, others.argmax(axis=1)] = 1
    slope[rows, y] = -1
    through = (1 - inner**2) * (slope @ w.T) * ((np.abs(h) < 1) if op == "Sign" else 1)
    # Where two classes are level, either is the strongest.
    clear = ahead[:, 1] - ahead[:, 0] > 1e-4
    clear &= (np.abs(np.abs(h) - 1) > 1e-4).all(axis=1)
    np.testing.assert_allclose(found[GRADIENT][clear], (through @ v.T)[clear], rtol=1e-3, atol=1e-5)


def test_only_where_it_is_asked_for() -> None:
    model = stepped("Round", np.ones((4, 5), np.float32), np.ones((5, 3), np.float32))
    with pytest.raises(NoGradientError):
        build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "y"))
    build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "y", straight_through=True))
