"""Gradient rules of convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import UnsupportedOperatorError
from tests.support.gradcheck import gradient_model
from tests.support.ortcheck import check_both


def _attributes(**values: object) -> str:
    """Write attributes in ONNX text."""
    parts = []
    for name, value in values.items():
        kind = {list: "ints", int: "int", str: "string", float: "float"}[type(value)]
        text = f'"{value}"' if isinstance(value, str) else str(value)
        parts.append(f"{name}: {kind} = {text}")
    return f"<{', '.join(parts)}>" if parts else ""


def _per_axis(low: int, high: int, rank: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=rank, max_size=rank)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[str, dict[str, np.ndarray]]:
    rank = draw(st.integers(1, 3))
    most = {1: 9, 2: 6, 3: 4}[rank]
    group = draw(st.sampled_from([1, 1, 2, 3]))
    into, out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, dilations = draw(_per_axis(1, 3, rank)), draw(_per_axis(1, 2, rank))
    strides = draw(_per_axis(1, 3, rank))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [e + draw(st.integers(0, most)) for e in extent]
    attributes: dict[str, object] = {"group": group, "strides": strides}
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto == "NOTSET":
        attributes["pads"] = draw(_per_axis(0, 3, 2 * rank))
        attributes["dilations"] = dilations
    else:
        attributes["auto_pad"] = auto
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weights = rng.standard_normal((group * out, into, *kernel)).round(2)
    values = ", ".join(str(v) for v in weights.ravel())
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    f (double[{", ".join("?" * (rank + 2))}] x) => (double y)
    <double[{", ".join(map(str, weights.shape))}] w = {{{values}}}> {{
        y = Conv{_attributes(**attributes)}(x, w)
    }}"""
    return text, {"x": rng.standard_normal((2, group * into, *size))}


@given(convolutions())
@settings(max_examples=40, deadline=None)
def test_conv(case: tuple[str, dict[str, np.ndarray]]) -> None:
    check_both(*case)


def test_conv_with_computed_weights_is_refused() -> None:
    import onnx

    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        f (float[1, 1, 4, 4] x, float[1, 1, 3, 3] w) => (float y) { y = Conv(x, w) }"""
    )
    with pytest.raises(UnsupportedOperatorError, match="weights"):
        gradient_model(model, {"x": (1, 1, 4, 4), "w": (1, 1, 3, 3)}, ["w"])
