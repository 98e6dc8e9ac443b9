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


STORED = np.random.default_rng(0).integers(-100, 100, (3, 5, 2, 2)).astype(np.int8)
SCALES, ZEROS = np.float32([0.5, 0.25, 0.125, 2, 1]), np.int8([3, -7, 0, 9, -1])


def dequantised(stored: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int) -> np.ndarray:
    wide = [-1 if place == axis and np.ndim(scale) else 1 for place in range(stored.ndim)]
    real = stored.astype(np.float32) - zero.astype(np.float32).reshape(wide)
    return np.asarray(real * scale.reshape(wide), np.float32)


# How weights w are made of q, s and z; and what they are.
KEPT = {
    "w = DequantizeLinear(q, s)": (STORED, SCALES[0], None, 0),
    "w = DequantizeLinear(q, s, z)": (STORED, SCALES[0], ZEROS[0], 0),
    "w = DequantizeLinear<axis = 0>(q, s, z)": (STORED, SCALES[:3], ZEROS[:3], 0),
    # Along the second axis where none is named.
    "w = DequantizeLinear(q, s, z) ": (STORED, SCALES, ZEROS, 1),
    "t = DequantizeLinear(q, s, z) w = Transpose<perm = [1, 0, 2, 3]>(t)": (
        STORED.swapaxes(0, 1),
        SCALES[:3],
        ZEROS[:3],
        1,
    ),
    "t = DequantizeLinear<axis = 3>(q, s, z) w = Transpose(t)": (
        STORED.T,
        SCALES[:3],
        ZEROS[:3],
        3,
    ),
    "c = Cast<to = 1>(q) w = Identity(c)": (STORED, None, None, 0),
}


@pytest.mark.parametrize("form", KEPT)
def test_weights_are_the_numbers_they_stand_for(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are too many to be computed before, of more channels than three or four."""
    monkeypatch.setattr("cloakify.graph.lowering.fold_shapes.LARGEST_FOLDED", 4)
    stored, scale, zero, axis = KEPT[form]
    by, without = np.float32(1) if scale is None else scale, np.int8(0) if zero is None else zero
    real = dequantised(stored, by, without, axis)
    real = real.swapaxes(0, 1) if "perm" in form else real.T if "Transpose" in form else real
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 5, 5, 5)).astype(np.float32)
    g = rng.standard_normal((1, 3, 4, 4)).astype(np.float32)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (float[1, 5, 5, 5] x) => (float y) {{ {form} y = Conv(x, w) }}"""
    )
    for name, values in (("q", stored), ("s", scale), ("z", zero)):
        if values is not None:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    built = gradient_model(model, {"x": x.shape}, ["x"])
    session = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    # The gradient may have no need of x.
    feeds = {value.name: {"x": x}.get(value.name, g) for value in session.get_inputs()}
    (found,) = session.run(None, feeds)
    expected = np.zeros_like(x)
    for row, column in np.ndindex(2, 2):
        taps = np.einsum("nohw,oi->nihw", g, real[:, :, row, column])
        expected[:, :, row : row + 4, column : column + 4] += taps
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
