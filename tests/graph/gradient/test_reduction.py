"""Gradient rules of reductions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx.reference import ReferenceEvaluator

from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.onnxtext import attributes, constant, one_node, unknown
from tests.support.ortcheck import check_both

REDUCTIONS = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]


@st.composite
def shaped_axes(draw: st.DrawFn) -> tuple[tuple[int, ...], list[int]]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=3))
    rank = len(shape)
    axes = draw(st.lists(st.integers(0, rank - 1), unique=True, min_size=1))
    return shape, [axis - rank if draw(st.booleans()) else axis for axis in axes]


@settings(max_examples=15, deadline=None)
@given(shaped_axes(), st.booleans(), st.integers(0, 99))
@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_axes(
    op_type: str, where: tuple[tuple[int, ...], list[int]], keepdims: bool, seed: int
) -> None:
    shape, axes = where
    text = one_node(
        f"y = {op_type}{attributes(keepdims=keepdims)}(x, axes)",
        f"{unknown('double', len(shape))} x",
        constants=constant("int64", "axes", [len(axes)], axes),
    )
    check_both(text, {"x": np.random.default_rng(seed).uniform(0.3, 2, shape)})


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("noop", [False, True])
def test_no_axes(op_type: str, noop: bool) -> None:
    if noop and op_type not in ("ReduceSum", "ReduceMax"):
        return  # what the function does to single elements is not agreed on between runtimes
    text = one_node(f"y = {op_type}{attributes(noop_with_empty_axes=noop)}(x)", "double[?, ?] x")
    check_gradient(text, {"x": np.random.default_rng(0).uniform(0.3, 2, (2, 3))})


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_axes_as_an_attribute(op_type: str) -> None:
    text = one_node(f"y = {op_type}<axes = [1], keepdims = 0>(x)", "double[?, ?] x", opset=11)
    check_gradient(text, {"x": np.random.default_rng(0).uniform(0.3, 2, (2, 3))})


@pytest.mark.parametrize("op_type", ["ReduceL1", "ReduceSumSquare", "ReduceL2", "ReduceLogSumExp"])
def test_negative_elements(op_type: str) -> None:
    check_both(
        one_node(f"y = {op_type}(x)", "double[?, ?] x"),
        {"x": np.random.default_rng(0).standard_normal((3, 4))},
    )


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_prod_with_zeros(zeros: int) -> None:
    x = np.array([[2.0, -3.0, 0.5, 4.0], [1.0, 2.0, 3.0, -1.0]])
    x[0, :zeros] = 0
    text = one_node(
        "y = ReduceProd<keepdims: int = 0>(x, axes)",
        "double[?, ?] x",
        constants="int64[1] axes = {1}",
    )
    check_both(text, {"x": x})


@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin"])
def test_ties_share_as_in_torch(op_type: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 2.0]])
    found = _gradient(f"y = {op_type}<keepdims: int = 0>(x, axes)", x)
    tensor = torch.tensor(x, requires_grad=True)
    reduced = torch.amax(tensor, 1) if op_type == "ReduceMax" else torch.amin(tensor, 1)
    expected = torch.autograd.grad(reduced.sum(), tensor)[0].numpy()
    np.testing.assert_allclose(found, expected)


def test_norm_of_zeros_has_gradient_zero() -> None:
    found = _gradient("y = ReduceL2<keepdims: int = 0>(x, axes)", np.zeros((2, 3)))
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def _gradient(call: str, x: np.ndarray) -> np.ndarray:
    text = one_node(call, "double[?, ?] x", constants="int64[1] axes = {1}")
    model = gradient_model(onnx.parser.parse_model(text), {"x": x.shape}, ["x"])
    found: np.ndarray = ReferenceEvaluator(model).run(
        None, {"x": x, "seed_y": np.ones(x.shape[0])}
    )[0]
    return found
