"""What the readers of a tensor return is summed, or joined where each read a part of its own."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import constant, one_node, unknown
from tests.support.ortcheck import check_both

SHAPE = (4, 5, 6)


@st.composite
def partitions(draw: st.DrawFn) -> tuple[str, bool]:
    """Return a graph that reads parts of x, and whether they make it up along one axis."""
    axis = draw(st.integers(0, 2))
    size = SHAPE[axis]
    inner = draw(st.lists(st.integers(1, size - 1), min_size=1, max_size=3, unique=True))
    edges = [0, *sorted(inner), size]
    parts = list(itertools.pairwise(edges))
    missing = draw(st.booleans())
    if missing:
        parts.pop(draw(st.integers(0, len(parts) - 1)))
    constants, calls, names = [], [], []
    for number, (start, end) in enumerate(draw(st.permutations(parts))):
        constants += [
            constant("int64", f"s{number}", [1], [start]),
            constant("int64", f"e{number}", [1], [end]),
        ]
        source = f"Slice(x, s{number}, e{number}, a)"
        if end - start == 1 and draw(st.booleans()):
            source = f"Gather<axis = {axis}>(x, s{number})"
        calls += [f"p{number} = {source}", f"q{number} = Sin(p{number})"]
        names.append(f"q{number}")
    constants.append(constant("int64", "a", [1], [axis]))
    calls.append(f"j = Concat<axis = {axis}>({', '.join(names)})")
    whole = draw(st.booleans())
    if whole:
        calls += ["c = Cos(x)", "t = ReduceSum(c)", "y = Mul(j, t)"]
    else:
        calls.append("y = Neg(j)")
    text = one_node(" ".join(calls), f"{unknown('double', 3)} x", 18, ", ".join(constants))
    return text, not missing


@given(partitions())
@settings(max_examples=30, deadline=None)
def test_parts_are_joined(case: tuple[str, bool]) -> None:
    text, complete = case
    check_both(text, {"x": np.random.default_rng(0).standard_normal(SHAPE)})
    model = gradient_model(onnx.parser.parse_model(text), {"x": SHAPE}, ["x"])
    padded = [node.op_type for node in model.graph.node].count("Pad")
    assert bool(padded) != complete


def test_parts_along_two_axes_are_summed() -> None:
    constants = ", ".join(
        [
            constant("int64", "z", [1], [0]),
            constant("int64", "m", [1], [2]),
            constant("int64", "e", [1], [9]),
            constant("int64", "first", [1], [0]),
            constant("int64", "second", [1], [1]),
        ]
    )
    calls = """a = Slice(x, z, m, first) b = Slice(x, m, e, second)
        c = ReduceSum(a) d = Sin(b) y = Mul(c, d)"""
    check_both(
        one_node(calls, f"{unknown('double', 3)} x", 18, constants),
        {"x": np.random.default_rng(0).standard_normal(SHAPE)},
    )


@given(st.integers(1, 3), st.integers(1, 4), st.booleans())
@settings(max_examples=15, deadline=None)
def test_parts_of_a_part_are_summed(row: int, column: int, swapped: bool) -> None:
    """Two that make up the first axis, but begin late along the second one."""
    constants = ", ".join(
        [
            constant("int64", "top", [2], [0, column]),
            constant("int64", "middle", [2], [row, 9]),
            constant("int64", "below", [2], [row, column]),
            constant("int64", "end", [2], [9, 9]),
            constant("int64", "axes", [2], [0, 1]),
        ]
    )
    calls = ["a = Slice(x, top, middle, axes)", "b = Slice(x, below, end, axes)"]
    calls = calls[::-1] if swapped else calls
    calls += ["c = Sin(a)", "d = Cos(b)", "e = ReduceSum(c)", "y = Mul(d, e)"]
    check_both(
        one_node(" ".join(calls), f"{unknown('double', 3)} x", 18, constants),
        {"x": np.random.default_rng(0).standard_normal(SHAPE)},
    )


@pytest.mark.parametrize("readers", [2, 3])
def test_gradients_that_are_all_spread_out_have_the_shape_of_what_they_are_of(readers: int) -> None:
    """Every reader sums x up, so that each of its gradients is one number in every place."""
    calls = [f"r{number} = ReduceSum(x)" for number in range(readers)]
    calls += [f"s{number} = Sin(r{number})" for number in range(readers)]
    calls.append(f"y = Sum({', '.join(f's{number}' for number in range(readers))})")
    text = one_node(" ".join(calls), f"{unknown('double', 3)} x", 18)
    check_both(text, {"x": np.random.default_rng(0).standard_normal(SHAPE)})
