"""Gradient rules of convolution."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import UnsupportedOperatorError
from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import attributes
from tests.support.ortcheck import check_both


def _per_axis(low: int, high: int, rank: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=rank, max_size=rank)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[str, dict[str, np.ndarray]]:
    rank = draw(st.integers(1, 3))
    most = {1: 9, 2: 6, 3: 4}[rank]
    group = draw(st.sampled_from([1, 1, 2, 3]))
    # With 4 channels and fewer stride 1 goes another way; with 16 phases are computed apart.
    into, out = draw(st.sampled_from([1, 2, 5, 16])), draw(st.integers(1, 2))
    kernel, dilations = draw(_per_axis(1, 3, rank)), draw(_per_axis(1, 2, rank))
    strides = draw(_per_axis(1, 3, rank))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [e + draw(st.integers(0, most)) for e in extent]
    if draw(st.booleans()):
        dilations = [1] * rank
    chosen: dict[str, object] = {"group": group, "strides": strides}
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto == "NOTSET":
        chosen["pads"] = draw(_per_axis(0, 3, 2 * rank))
        chosen["dilations"] = dilations
    else:
        chosen["auto_pad"] = auto
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weights = rng.standard_normal((group * out, into, *kernel)).round(2)
    values = ", ".join(str(v) for v in weights.ravel())
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    f (double[{", ".join("?" * (rank + 2))}] x) => (double y)
    <double[{", ".join(map(str, weights.shape))}] w = {{{values}}}> {{
        y = Conv{attributes(**chosen)}(x, w)
    }}"""
    return text, {"x": rng.standard_normal((2, group * into, *size))}


@given(convolutions())
@settings(max_examples=40, deadline=None)
def test_conv(case: tuple[str, dict[str, np.ndarray]]) -> None:
    check_both(*case)


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> tuple[str, dict[str, np.ndarray]]:
    rank = draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 1, 2]))
    into, out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, dilations = draw(_per_axis(1, 3, rank)), draw(_per_axis(1, 2, rank))
    strides, size = draw(_per_axis(1, 3, rank)), draw(_per_axis(2, 4, rank))
    chosen: dict[str, object] = {"group": group, "strides": strides, "dilations": dilations}
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = draw(st.sampled_from(["pads", "pads", "VALID", "output_shape"]))
    if sizes == "pads":
        chosen["pads"] = [draw(st.integers(0, min(2, (e - 1) // 2))) for e in extent * 2]
        chosen["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    elif sizes == "output_shape":
        full = [s * (n - 1) + e for s, n, e in zip(strides, size, extent, strict=True)]
        # onnx infers no shape that is smaller than the input.
        most = [min(2, f - n) for f, n in zip(full, size, strict=True)]
        chosen["output_shape"] = [
            n - draw(st.integers(0, m)) for n, m in zip(full, most, strict=True)
        ]
        chosen["auto_pad"] = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]))
    else:
        chosen["auto_pad"] = sizes
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weights = rng.standard_normal((group * into, out, *kernel)).round(2)
    values = ", ".join(str(v) for v in weights.ravel())
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    f (double[{", ".join("?" * (rank + 2))}] x) => (double y)
    <double[{", ".join(map(str, weights.shape))}] w = {{{values}}}> {{
        y = ConvTranspose{attributes(**chosen)}(x, w)
    }}"""
    return text, {"x": rng.standard_normal((2, group * into, *size))}


@given(transposed_convolutions())
@settings(max_examples=25, deadline=None)
def test_conv_transpose(case: tuple[str, dict[str, np.ndarray]]) -> None:
    check_both(*case)


def test_conv_with_computed_weights_is_refused() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        f (float[1, 1, 4, 4] x, float[1, 1, 3, 3] w) => (float y) { y = Conv(x, w) }"""
    )
    with pytest.raises(UnsupportedOperatorError, match="weights"):
        gradient_model(model, {"x": (1, 1, 4, 4), "w": (1, 1, 3, 3)}, ["w"])


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("size", [[1, 4], [4, 1], [1, 1]])
def test_windows_that_lie_in_the_padding_give_nothing(size: list[int], constant: bool) -> None:
    """Along an axis of size 1 the only window is to the left of it; no other axis makes up."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2, 2, 2, 2)).round(2)
    values = ", ".join(map(str, weights.ravel()))
    given_so = f"<double[2, 2, 2, 2] w = {{{values}}}>" if constant else ""
    inputs = "double[?, ?, ?, ?] x" + ("" if constant else ", double[?, ?, ?, ?] w")
    text = f"""<ir_version: 8, opset_import: ["" : 18]> f ({inputs}) => (double y) {given_so} {{
        y = Conv<pads = [2, 2, 0, 0], strides = [3, 3]>(x, w)
    }}"""
    x = rng.standard_normal((1, 2, *size))
    check_both(text, {"x": x} if constant else {"x": x, "w": weights}, ["x"])


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_that_are_dequantised_are_the_numbers_they_stand_for(axis: int | None) -> None:
    """With one scale, or with one along an axis: the second where none is named."""
    rng = np.random.default_rng(0)
    stored = rng.integers(-100, 100, (3, 2, 2, 2)).astype(np.int8)
    count = () if axis is None else stored.shape[axis]
    scale = rng.choice(np.float32([0.5, 0.25, 0.125]), count, replace=False)
    zero = rng.integers(-9, 9, count).astype(np.int8)
    wide = [count if place == axis else 1 for place in range(4)]
    real = (stored.astype(np.float32) - zero.reshape(wide)) * scale.reshape(wide)

    def gradient(body: str, **constants: np.ndarray) -> np.ndarray:
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 18]>
            f (float[1, 2, 5, 5] x) => (float y) {{ {body} }}"""
        )
        for name, values in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        built = gradient_model(model, {"x": x.shape}, ["x"]).SerializeToString()
        session = ort.InferenceSession(built, providers=["CPUExecutionProvider"])
        # The gradient may have no need of x.
        feeds = {value.name: {"x": x}.get(value.name, g) for value in session.get_inputs()}
        (found,) = session.run(None, feeds)
        return np.asarray(found)

    x = rng.standard_normal((1, 2, 5, 5)).astype(np.float32)
    g = rng.standard_normal((1, 3, 4, 4)).astype(np.float32)
    quantised = gradient(
        f"w = DequantizeLinear{'<axis = 0>' if axis == 0 else ''}(q, s, z) y = Conv(x, w)",
        q=stored,
        s=np.asarray(scale),
        z=np.asarray(zero),
    )
    np.testing.assert_allclose(quantised, gradient("y = Conv(x, w)", w=real), rtol=1e-5)
