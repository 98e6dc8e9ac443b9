"""Gradient rules of Fourier transforms."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.coverage import gradient_coverage
from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import attributes, constant, one_node, unknown
from tests.support.ortcheck import check_both
from tests.support.reference_ops import OPS


def scalar(name: str, value: int) -> str:
    return f"int64 {name} = {{{value}}}"


def _sample(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.random.default_rng(0).standard_normal(shape))


@given(
    st.lists(st.integers(2, 6), min_size=2, max_size=3),
    st.sampled_from([1, 2]),
    st.sampled_from(["forward", "inverse", "onesided", "real inverse"]),
    st.sampled_from([None, 3, 4, 7]),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_dft(
    sizes: list[int], parts: int, kind: str, length: int | None, data: st.DataObject
) -> None:
    axis = data.draw(st.one_of(st.none(), st.integers(-len(sizes) - 1, len(sizes) - 1)))
    axis = None if axis == -1 else axis
    if kind == "onesided":
        parts = 1
    elif kind != "forward":
        parts = 2
    more = {
        "inverse": int("inverse" in kind),
        "onesided": int(kind in ("onesided", "real inverse")),
    }
    if length and kind == "real inverse":
        place = (-2 if axis is None else axis) % (len(sizes) + 1)
        sizes[place] = length // 2 + 1
    constants = [scalar("n", length)] if length else []
    inputs = ["x", "n" if length else ""]
    if axis is not None:
        constants.append(scalar("a", axis))
        inputs.append("a")
    call = f"y = DFT{attributes(**more)}({', '.join(inputs).rstrip(', ')})"
    x = _sample((*sizes, parts))
    text = one_node(call, f"{unknown('double', x.ndim)} x", 20, ", ".join(constants))
    # Before, the runtime has as many results as there are frequencies, and they are complex.
    check_both(text, {"x": x}, since="1.27" if kind == "real inverse" else "0")


@pytest.mark.parametrize(("window", "measured"), [(False, True), (True, True), (True, False)])
@given(st.integers(1, 4), st.integers(2, 6), st.sampled_from([1, 2]), st.booleans())
@settings(max_examples=10, deadline=None)
def test_stft(
    window: bool, measured: bool, step: int, length: int, parts: int, onesided: bool
) -> None:
    onesided = onesided and parts == 1
    constants = [scalar("s", step)]
    inputs = ["x", "s", "", ""]
    if window:
        values = np.hanning(length + 2)[1:-1].round(3)
        constants.append(constant("double", "w", [length], values))
        inputs[2] = "w"
    if measured:
        constants.append(scalar("l", length))
        inputs[3] = "l"
    # One side is the default.
    sides = attributes(onesided=None if onesided and measured else int(onesided))
    call = f"y = STFT{sides}({', '.join(inputs).rstrip(', ')})"
    text = one_node(call, "double[?, ?, ?] x", 17, ", ".join(constants))
    # Before, the runtime gets complex signals wrong, by up to 1e31.
    check_both(text, {"x": _sample((2, 9, parts))}, since="1.31" if parts == 2 else "0")


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
@pytest.mark.parametrize("length", [5, 8])
def test_as_torch(name: str, length: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is the oracle here")
    size = length // 2 + 1 if name == "irfft" else 6
    x = torch.tensor(_sample((3, size, 1 if name == "rfft" else 2)), requires_grad=True)
    signal = x[..., 0] if name == "rfft" else torch.view_as_complex(x)
    y = getattr(torch.fft, name)(signal, n=length)
    y = y[..., None] if name == "irfft" else torch.view_as_real(y)
    seed = torch.tensor(np.random.default_rng(1).standard_normal(y.shape))
    (y * seed).sum().backward()
    more = attributes(inverse="i" in name[:2], onesided="r" in name)
    text = one_node(f"y = DFT{more}(x, n)", "double[?, ?, ?] x", 20, scalar("n", length))
    model = gradient_model(onnx.parser.parse_model(text), {"x": tuple(x.shape)}, ["x"])
    (found,) = ReferenceEvaluator(model, new_ops=OPS).run(
        None, {"x": x.detach().numpy(), "seed_y": seed.numpy()}
    )
    np.testing.assert_allclose(found, x.grad.numpy(), atol=1e-10)


def test_frequencies_that_do_not_fit_the_length_are_refused() -> None:
    """ONNX Runtime does not answer there what the standard has."""
    call = "y = DFT<inverse: int = 1, onesided: int = 1>(x, n)"
    model = onnx.parser.parse_model(one_node(call, "float[2, 3, 2] x", 20, scalar("n", 6)))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(UnsupportedOperatorError, match="6 real numbers of 3 frequencies, not of 4"):
        gradient_model(model, {"x": (2, 3, 2)}, ["x"])


def test_a_transform_of_unknown_shape_is_not_judged_by_it() -> None:
    """Behind another library's operator, of which nothing infers a shape."""
    text = """<ir_version: 9, opset_import: ["" : 20, "com.microsoft" : 1]>
    net (float[2, 4, 2] x) => (float[2, M, 1] y) <int64 n = {6}> {
        q = com.microsoft.QuickGelu(x)
        y = DFT<inverse: int = 1, onesided: int = 1>(q, n)
    }"""
    coverage = gradient_coverage(onnx.parser.parse_model(text), "x", "y")
    assert not any("DFT" in told for told in coverage.missing)
