"""Gradient rules of operators that reshape, permute, join and pad."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cloakify.errors import UnsupportedOperatorError
from tests.support.gradcheck import check_gradient
from tests.support.onnxtext import attributes, constant, one_node, unknown
from tests.support.ortcheck import check_both

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def _check(call: str, x: np.ndarray, constants: str = "", opset: int = 18) -> None:
    inputs = f"{unknown('double', x.ndim)} x"
    check_both(one_node(call, inputs, opset, constants), {"x": x})


def _sample(shape: list[int] | tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@given(st.permutations(range(4)), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_transpose(perm: list[int], seed: int) -> None:
    _check(f"y = Transpose{attributes(perm=list(perm))}(x)", _sample((2, 3, 1, 4), seed))


@pytest.mark.parametrize(
    ("call", "constants"),
    [
        ("y = Reshape(x, s)", "int64[2] s = {-1, 6}"),
        ("y = Reshape(x, s)", "int64[3] s = {0, 0, -1}"),
        ("y = Flatten<axis: int = 2>(x)", ""),
        ("y = Flatten<axis: int = -1>(x)", ""),
        ("y = Squeeze(x, s)", "int64[1] s = {-2}"),
        ("y = Squeeze(x)", ""),
        ("y = Unsqueeze(x, s)", "int64[2] s = {-1, 1}"),
        ("y = Identity(x)", ""),
        ("y = Transpose(x)", ""),
        ("y = Dropout(x)", ""),
    ],
)
def test_same_elements(call: str, constants: str) -> None:
    _check(call, _sample((2, 3, 1, 4)), constants)


def test_cast_to_another_float_and_back() -> None:
    x = _sample((3, 2))
    check_both(
        '<ir_version: 8, opset_import: ["" : 18]> f (double[?, ?] x) => (double y) {'
        "a = Cast<to: int = 11>(x)  y = CastLike(a, x) }",
        {"x": x},
    )


@given(SHAPES, st.integers(-4, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_concat(shape: list[int], axis: int, sizes: list[int]) -> None:
    assume(-len(shape) <= axis < len(shape))
    feeds = {}
    for place, size in enumerate(sizes):
        part = list(shape)
        part[axis] = size
        feeds[f"x{place}"] = _sample(part, place)
    kind = unknown("double", len(shape))
    inputs = ", ".join(f"{kind} {name}" for name in feeds)
    check_both(one_node(f"y = Concat<axis: int = {axis}>({', '.join(feeds)})", inputs), feeds)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("equal", [False, True])
def test_split(axis: int, equal: bool) -> None:
    head = '<ir_version: 8, opset_import: ["" : 18]> f (double[?, ?] x) => (double a, double b)'
    if equal:
        text = f"{head} {{ a, b = Split<axis: int = {axis}, num_outputs: int = 2>(x) }}"
    else:
        text = f"{head} <int64[2] s = {{1, 4}}> {{ a, b = Split<axis: int = {axis}>(x, s) }}"
    check_both(text, {"x": _sample((5, 5))})


def test_split_with_an_unused_part() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> f (double[?, ?] x) => (double b) '
        "<int64[3] s = {1, 2, 2}> { a, b, c = Split<axis: int = 1>(x, s) }"
    )
    check_both(text, {"x": _sample((2, 5))})


@given(SHAPES, st.lists(st.integers(1, 3), min_size=4, max_size=4))
@settings(max_examples=20, deadline=None)
def test_tile(shape: list[int], repeats: list[int]) -> None:
    repeats = repeats[: len(shape)]
    _check("y = Tile(x, r)", _sample(shape), constant("int64", "r", [len(shape)], repeats))


@pytest.mark.parametrize(
    ("shape", "wanted"), [((3, 1), [3, 4]), ((1,), [2, 3]), ((2, 1, 3), [1, 2, 4, 1]), ((2,), [1])]
)
def test_expand(shape: tuple[int, ...], wanted: list[int]) -> None:
    _check("y = Expand(x, s)", _sample(shape), constant("int64", "s", [len(wanted)], wanted))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    call = f"y = DepthToSpace{attributes(blocksize=2, mode=mode)}(x)"
    _check(call, _sample((2, 8, 2, 3)))


def test_space_to_depth() -> None:
    _check("y = SpaceToDepth<blocksize: int = 2>(x)", _sample((2, 3, 4, 6)))


@given(st.integers(1, 7), st.integers(1, 7), st.booleans())
@settings(max_examples=20, deadline=None)
def test_center_crop_pad(height: int, width: int, with_axes: bool) -> None:
    call = (
        "y = CenterCropPad<axes: ints = [2, -3]>(x, s)" if with_axes else "y = CenterCropPad(x, s)"
    )
    sizes = [width, height] if with_axes else [2, height, width]
    _check(call, _sample((2, 4, 5)), constant("int64", "s", [len(sizes)], sizes))


@given(
    st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    st.lists(st.integers(-2, 3), min_size=4, max_size=4),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_pad(mode: str, pads: list[int], with_axes: bool) -> None:
    if mode != "constant":
        # The reference evaluator and ONNX Runtime cut only in mode constant.
        pads = [max(0, size) for size in pads]
    x = _sample((2, 4, 5))
    if with_axes:
        constants = f"{constant('int64', 'p', [4], pads)}, int64[2] a = {{-1, 1}}"
        _check(f"y = Pad{attributes(mode=mode)}(x, p, , a)", x, constants, opset=19)
    else:
        wanted = [0, *pads[:2], 0, *pads[2:]]
        _check(f"y = Pad{attributes(mode=mode)}(x, p)", x, constant("int64", "p", [6], wanted), 19)


def test_dropout_in_training_mode_is_refused():
    text = one_node(
        "y = Dropout (x, ratio, training)",
        "double[2, 3] x",
        constants="double ratio = {0.5}, bool training = {1}",
    )
    with pytest.raises(UnsupportedOperatorError, match="in training mode: its answers are random"):
        check_gradient(text, {"x": np.ones((2, 3))})


def test_dropout_in_inference_drops_nothing():
    text = one_node(
        "y = Dropout (x, ratio, training)",
        "double[2, 3] x",
        constants="double ratio = {0.5}, bool training = {0}",
    )
    check_gradient(text, {"x": np.ones((2, 3))})
