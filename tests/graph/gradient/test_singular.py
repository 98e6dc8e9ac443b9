"""Infinite slopes: what a ReLU cuts off passes none on, and what it passes is a number."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.graph.attack_steps.build import GRADIENT, LABELS, GradientSpec, build_gradient
from cloakify.graph.attack_steps.gate_gradient import SUFFIX, build_gate_gradient
from cloakify.runtime import Device, Session

# From r ≥ 0 to s, with an infinite slope at r = 0 or where a sum of them is 0.
SINGULAR = {
    "root": "s = Sqrt (r)",
    "power": "s = Pow (r, third)",
    "half": "s = Pow (r, half)",
    "logarithm": "e = Log (r)  s = Max (e, low)",
    "inverse": "i = Reciprocal (r)  s = Min (i, high)",
    "power of -1": "i = Pow (r, minus)  s = Min (i, high)",
    "quotient": "i = Div (one, r)  s = Min (i, high)",
    "arc sine": "o = Sub (one, r)  c = Max (o, zero)  s = Asin (c)",
    "arc cosine": "o = Sub (one, r)  c = Max (o, zero)  s = Acos (c)",
    "area tangent": "o = Sub (one, r)  c = Max (o, zero)  t = Atanh (c)  s = Min (t, high)",
    "area cosine": "o = Add (one, r)  s = Acosh (o)",
}
TEXT = """
    <ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 6] x) => (float[N, 3] z)
    <float half = {{0.5}}, float third = {{0.3333}}, float minus = {{-1.0}}, float one = {{1.0}},
     float zero = {{0.0}}, float low = {{-9.0}}, float high = {{9.0}}>
    {{ h = MatMul (x, v)  {gate}  r = Relu (k)  {singular}  z = MatMul (s, w) }}
"""


def model_of(singular: str, gate: str = "k = Identity (h)") -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT.format(singular=singular, gate=gate))
    rng = np.random.default_rng(1)
    for name, shape in (("v", (6, 8)), ("w", (8, 3))):
        values = (0.3 * rng.standard_normal(shape)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


@pytest.mark.parametrize("kind", sorted(SINGULAR))
def test_what_is_cut_off_has_no_gradient(kind: str) -> None:
    """Beside it the gradient is that of central differences."""
    model, rng = model_of(SINGULAR[kind]), np.random.default_rng(0)
    x = rng.standard_normal((20, 6)).astype(np.float32)
    y = rng.integers(0, 3, 20)
    spec = GradientSpec("x", "z", loss="margin")
    session = Session(build_gradient(model, {"x": x.shape}, spec), Device("cpu"))
    run = session.run({"x": x, LABELS: y})
    found, loss = run[GRADIENT].astype(np.float64), run["cloakify_loss"]
    assert np.isfinite(found).all()
    assert (found != 0).any(axis=1).mean() > 0.9
    step, direction = 1e-3, rng.standard_normal(x.shape)
    ahead, behind = (
        session.run({"x": (x + sign * step * direction).astype(np.float32), LABELS: y})
        for sign in (1, -1)
    )
    slope = (ahead["cloakify_loss"] - behind["cloakify_loss"]) / (2 * step)
    bend = ahead["cloakify_loss"] + behind["cloakify_loss"] - 2 * loss
    smooth = np.abs(bend) < 2e-5
    assert smooth.sum() >= 3
    expected = (found * direction).sum(axis=1)
    np.testing.assert_allclose(slope[smooth], expected[smooth], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", sorted(SINGULAR))
def test_gates_before_it_are_moved(kind: str) -> None:
    model = model_of(SINGULAR[kind], "k = Mul (h, g)")
    gate = onnx.helper.make_tensor_value_info("g", onnx.TensorProto.FLOAT, [8])
    model.graph.input.append(gate)
    built = build_gate_gradient(model, {"x": (20, 6)}, "z", ["g"])
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((20, 6)).astype(np.float32), "g": np.ones(8, np.float32)}
    shares = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 20)]
    found = Session(built, Device("cpu")).run({**feeds, "cloakify_distribution": shares})
    assert np.isfinite(found["g" + SUFFIX]).all()
    assert (found["g" + SUFFIX] != 0).any()
