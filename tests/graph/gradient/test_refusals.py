"""Inputs that a rule has no gradient for are refused where they come from data, and only there."""

from __future__ import annotations

import onnx
import pytest

from cloakify.errors import UnsupportedOperatorError
from tests.support.gradcheck import gradient_model

# The call, the type and shape of each input, and the letters of those that have gradients.
CASES = {
    "Conv": ("Conv(x, w, b)", {"x": (1, 2, 4, 4), "w": (3, 2, 2, 2), "b": (3,)}, "x"),
    "ConvTranspose": (
        "ConvTranspose(x, w, b)",
        {"x": (1, 2, 4, 4), "w": (2, 3, 2, 2), "b": (3,)},
        "x",
    ),
    "STFT": ("STFT(x, step, w)", {"x": (1, 9, 1), "w": (4,)}, "x"),
    "BatchNormalization": (
        "BatchNormalization(x, s, b, m, v)",
        {"x": (2, 3, 4), "s": (3,), "b": (3,), "m": (3,), "v": (3,)},
        "x",
    ),
    "InstanceNormalization": (
        "InstanceNormalization(x, s, b)",
        {"x": (2, 3, 4), "s": (3,), "b": (3,)},
        "x",
    ),
    "SkipLayerNormalization": (
        "com.microsoft.SkipLayerNormalization(x, z, s, b)",
        {"x": (2, 2, 3), "z": (2, 2, 3), "s": (3,), "b": (3,)},
        "xz",
    ),
    "QGemm": (
        "com.microsoft.QGemm(a8, one, zero, b8, one, zero, c)",
        {"a": (2, 3), "b": (3, 4)},
        "a",
    ),
    "DynamicQuantizeMatMul": (
        "com.microsoft.DynamicQuantizeMatMul(a, b8, one, zero)",
        {"a": (2, 3), "b": (3, 4)},
        "a",
    ),
    "QLinearConv": (
        "QLinearConv(a8, one, zero, b8, one, zero, one, zero)",
        {"a": (1, 2, 4, 4), "b": (3, 2, 2, 2)},
        "a",
    ),
    "ConvInteger": ("ConvInteger(a8, b8, zero, zero)", {"a": (1, 2, 4, 4), "b": (3, 2, 2, 2)}, "a"),
}


def model_of(name: str) -> onnx.ModelProto:
    """Write the graph; a8 and b8 are a and b in eight bits."""
    call, shapes, _ = CASES[name]
    inputs = ", ".join(f"float[{', '.join(map(str, shape))}] {n}" for n, shape in shapes.items())
    eight = " ".join(
        f"{n}8 = QuantizeLinear({n}, one, zero)" for n in ("a", "b") if f"{n}8" in call
    )
    made = f"t = {call}"
    last = "y = Identity(t)"
    if name == "QLinearConv":
        last = "y = DequantizeLinear(t, one, zero)"
    elif name == "ConvInteger":
        last = "y = Cast<to: int = 1>(t)"
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        f ({inputs}) => (float y)
        <float one = {{1}}, uint8 zero = {{0}}, int64 step = {{2}}, int32[4] c = {{0, 0, 0, 0}}>
        {{ {eight} {made} {last} }}"""
    )


@pytest.mark.parametrize("name", CASES)
def test_what_has_a_gradient_and_what_has_none(name: str) -> None:
    _, shapes, smooth = CASES[name]
    gradient_model(model_of(name), shapes, list(smooth))
    for other in set(shapes) - set(smooth):
        with pytest.raises(UnsupportedOperatorError, match=f"{name} .* from data"):
            gradient_model(model_of(name), shapes, [other])
