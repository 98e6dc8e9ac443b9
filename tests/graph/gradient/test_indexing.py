"""Gradient rules of operators that select elements by position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gradcheck import check_gradient
from tests.support.onnxtext import attributes, constant, one_node, unknown
from tests.support.ortcheck import check_both


def _sample(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _check(call: str, x: np.ndarray, constants: str = "", opset: int = 18) -> None:
    inputs = f"{unknown('double', x.ndim)} x"
    check_both(one_node(call, inputs, opset, constants), {"x": x})


@st.composite
def slices(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[int]]:
    axes = draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
    parts: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    for axis in axes:
        size = (4, 5, 6)[axis]
        step = draw(st.sampled_from([1, 2, 3, -1, -2, -3]))
        places = draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)))
        start, end = (min(places), max(places) + 1) if step > 0 else (max(places), min(places) - 1)
        if end < 0 or draw(st.booleans()):
            end = 1 << 40 if step > 0 else -(1 << 40)
        elif draw(st.booleans()) and end != size:
            end -= size
        if draw(st.booleans()):
            start -= size
        for part, value in zip(parts, (start, end, axis, step), strict=True):
            part.append(value)
    return parts


@given(slices())
@settings(max_examples=30, deadline=None)
def test_slice(parts: tuple[list[int], list[int], list[int], list[int]]) -> None:
    constants = ", ".join(
        constant("int64", name, [len(part)], part) for name, part in zip("seat", parts, strict=True)
    )
    _check("y = Slice(x, s, e, a, t)", _sample((4, 5, 6)), constants)


@given(
    st.integers(-3, 2),
    st.one_of(
        st.lists(st.integers(-3, 2), min_size=1, max_size=5),
        st.permutations([0, 1, 2]),
        st.sampled_from([[0, 1], [1, 2], [1], [-1]]),
    ),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_gather(axis: int, places: list[int], computed: bool) -> None:
    x = _sample((3, 3, 3))
    call = f"y = Gather<axis: int = {axis}>(x, i)"
    if computed:
        feeds = {"x": x, "i": np.array([places], np.int64)}
        check_both(one_node(call, "double[?, ?, ?] x, int64[?, ?] i"), feeds)
    else:
        _check(call, x, constant("int64", "i", [1, len(places)], places))


def test_gather_of_one_position() -> None:
    _check("y = Gather<axis: int = 1>(x, i)", _sample((2, 3, 4)), "int64 i = {-1}")


@given(st.integers(-2, 1), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_gather_elements(axis: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    feeds = {"x": rng.standard_normal((3, 4)), "i": rng.integers(-3, 3, (3, 4))}
    text = one_node(
        f"y = GatherElements<axis: int = {axis}>(x, i)", "double[?, ?] x, int64[?, ?] i"
    )
    check_both(text, feeds)


@pytest.mark.parametrize(
    ("batch", "shape", "depth"),
    [(0, (4,), 1), (0, (2, 3), 2), (0, (5,), 3), (1, (3, 2), 1), (1, (3,), 2), (2, (3, 4, 2), 1)],
)
def test_gather_nd(batch: int, shape: tuple[int, ...], depth: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5))
    limits = np.array(x.shape[batch : batch + depth])
    tuples = rng.integers(-limits, limits, (*shape, depth))
    text = one_node(
        f"y = GatherND<batch_dims: int = {batch}>(x, i)",
        f"double[?, ?, ?] x, {unknown('int64', len(shape) + 1)} i",
    )
    # The runtime does not promise negative indices with batch axes.
    check_both(text, {"x": x, "i": tuples if not batch else tuples % limits})


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_top_k(largest: int, axis: int) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> f (double[?, ?] x) => (double y)'
        f"<int64[1] k = {{2}}> {{ y, i = TopK{attributes(axis=axis, largest=largest)}(x, k) }}"
    )
    check_both(text, {"x": _sample((3, 4))})


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_compress(axis: int | None) -> None:
    _check(f"y = Compress{attributes(axis=axis)}(x, c)", _sample((3, 4)), "bool[3] c = {1, 0, 1}")


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("diagonal", [None, -1, 0, 2])
def test_trilu(upper: int, diagonal: int | None) -> None:
    call, constants = f"y = Trilu<upper: int = {upper}>(x)", ""
    if diagonal is not None:
        call, constants = call.replace("(x)", "(x, k)"), f"int64 k = {{{diagonal}}}"
    _check(call, _sample((2, 3, 4)), constants)


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reverse_sequence(time: int, batch: int) -> None:
    call = f"y = ReverseSequence{attributes(time_axis=time, batch_axis=batch)}(x, l)"
    _check(call, _sample((4, 4, 2)), "int64[4] l = {1, 4, 2, 3}")


@pytest.mark.parametrize(
    ("image", "block", "given"),
    [
        ((5, 5), (1, 5), {}),
        ((5, 5), (2, 3), {"strides": [1, 2], "pads": [0, 1, 1, 0]}),
        ((6, 5), (2, 2), {"dilations": [2, 1]}),
        ((4, 3, 3), (2, 2, 1), {}),
    ],
)
def test_col2im(
    image: tuple[int, ...], block: tuple[int, ...], given: dict[str, list[int]]
) -> None:
    rank = len(image)
    pads = given.get("pads", [0] * 2 * rank)
    columns = 1
    for axis in range(rank):
        reach = given.get("dilations", [1] * rank)[axis] * (block[axis] - 1) + 1
        room = image[axis] + pads[axis] + pads[axis + rank] - reach
        columns *= room // given.get("strides", [1] * rank)[axis] + 1
    constants = ", ".join(
        constant("int64", name, [rank], sizes) for name, sizes in (("i", image), ("b", block))
    )
    x = _sample((1, 2 * int(np.prod(block)), columns))
    check_gradient(
        one_node(f"y = Col2Im{attributes(**given)}(x, i, b)", "double[?, ?, ?] x", 18, constants),
        {"x": x},
    )
