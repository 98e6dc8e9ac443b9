"""Gradient rule of Resize: the operator is linear, so its adjoint is checked exactly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.lowering.run_once import run_once
from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import attributes, constant, one_node, unknown

COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def _check(call: str, shape: tuple[int, ...], constants: str, opset: int = 19) -> None:
    """Assert ⟨R x, s⟩ = ⟨x, Rᵀ s⟩, with R by ONNX Runtime."""
    model = onnx.parser.parse_model(
        one_node(call, f"{unknown('float', len(shape))} x", opset, constants).replace(
            "(double y)", "(float y)"
        )
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    (zero,) = run_once(model, {"x": np.zeros(shape, np.float32)})  # extrapolated elements
    y = run_once(model, {"x": x})[0] - zero
    seed = rng.standard_normal(y.shape).astype(np.float32)
    (gradient,) = run_once(gradient_model(model, {"x": shape}, ["x"]), {"x": x, "seed_y": seed})
    assert gradient.shape == shape
    np.testing.assert_allclose(
        np.sum(y * seed, dtype=np.float64),
        np.sum(gradient * x, dtype=np.float64),
        atol=1e-4 * np.abs(y).sum(),
    )


@given(
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(COORDINATES),
    st.sampled_from(NEAREST),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_resize(
    mode: str,
    coordinates: str,
    nearest: str,
    out: tuple[int, int],
    by_scales: bool,
    exclude_outside: bool,
) -> None:
    size = (5, 4)
    chosen = attributes(
        mode=mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode=nearest if mode == "nearest" else None,
        exclude_outside=exclude_outside if mode == "cubic" else None,
        extrapolation_value=7.5 if coordinates == "tf_crop_and_resize" else None,
    )
    parts = [constant("float", "r", [8], [0, 0, 0.2, -0.1, 1, 1, 0.9, 1.2])]
    roi = "r" if coordinates == "tf_crop_and_resize" else ""
    if by_scales:
        scales = [1, 1, (out[0] + 0.3) / size[0], (out[1] + 0.3) / size[1]]
        parts.append(constant("float", "s", [4], scales))
        call = f"y = Resize{chosen}(x, {roi}, s)"
    else:
        parts.append(constant("int64", "s", [4], [2, 3, *out]))
        call = f"y = Resize{chosen}(x, {roi}, , s)"
    _check(call, (2, 3, *size), ", ".join(parts))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("out", [2, 3, 7])
def test_antialiased(mode: str, out: int) -> None:
    call = f"y = Resize{attributes(mode=mode, antialias=1)}(x, , , s)"
    _check(call, (1, 2, 6, 5), constant("int64", "s", [4], [1, 2, out, out]))


@pytest.mark.parametrize("times", [2, 3])
def test_magnified_by_the_nearest(times: int) -> None:
    call = (
        'y = Resize<mode: string = "nearest", nearest_mode: string = "floor", '
        'coordinate_transformation_mode: string = "asymmetric">(x, , s)'
    )
    _check(call, (2, 3, 4, 5), constant("float", "s", [4], [1, 1, times, times]))


def test_some_axes_and_other_ranks() -> None:
    call = 'y = Resize<axes: ints = [1, 2], mode: string = "linear">(x, , , s)'
    _check(call, (2, 4, 5, 3), "int64[2] s = {7, 3}")
    call = 'y = Resize<mode: string = "linear">(x, , , s)'
    _check(call, (2, 3, 4), "int64[3] s = {2, 3, 9}")
    _check(call, (1, 2, 3, 4, 3), "int64[5] s = {1, 2, 5, 2, 6}")


def test_upsample_of_old_opsets() -> None:
    call = 'y = Upsample<mode: string = "linear">(x, s)'
    _check(call, (1, 2, 3, 4), constant("float", "s", [4], [1, 1, 2, 2]), opset=9)


def test_keeping_the_aspect_ratio_is_refused() -> None:
    text = one_node(
        'y = Resize<keep_aspect_ratio_policy: string = "not_larger">(x, , , s)',
        "float[1, 1, 4, 6] x",
        19,
        "int64[4] s = {1, 1, 8, 8}",
    )
    model = onnx.parser.parse_model(text.replace("(double y)", "(float y)"))
    with pytest.raises(UnsupportedOperatorError, match="aspect"):
        gradient_model(model, {"x": (1, 1, 4, 6)}, ["x"])
