"""Gradient rules of elementwise arithmetic, over broadcast patterns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.gradcheck import check_gradient
from tests.support.onnxtext import one_node, unknown
from tests.support.ortcheck import check_both

BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean"]


@settings(max_examples=15, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), st.integers(0, 99))
@pytest.mark.parametrize("op_type", BINARY)
def test_two_operands(op_type: str, shapes: hnp.BroadcastableShapes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (np.asarray(rng.uniform(0.5, 2, shape)) for shape in shapes.input_shapes)
    inputs = f"{unknown('double', a.ndim)} a, {unknown('double', b.ndim)} b"
    check_gradient(one_node(f"y = {op_type}(a, b)", inputs), {"a": a, "b": b})


@pytest.mark.parametrize("op_type", BINARY)
def test_the_runtime_agrees(op_type: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {"a": rng.uniform(0.5, 2, (2, 3, 4)), "b": rng.uniform(0.5, 2, (3, 1))}
    check_both(one_node(f"y = {op_type}(a, b)", "double[?, ?, ?] a, double[?, ?] b"), feeds)


@pytest.mark.parametrize("op_type", ["Sum", "Mean"])
def test_more_operands(op_type: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.standard_normal(shape)
        for name, shape in (("a", (2, 3)), ("b", (3,)), ("c", (2, 1)))
    }
    text = one_node(f"y = {op_type}(a, b, c)", "double[?, ?] a, double[?] b, double[?, ?] c")
    check_both(text, feeds)


def test_one_tensor_read_twice() -> None:
    x = np.random.default_rng(0).standard_normal(5)
    check_both(one_node("z = Mul(x, x) y = Add(z, x)"), {"x": x})


@pytest.mark.parametrize("call", ["Mul(x, s)", "Mul(s, x)"])
@pytest.mark.parametrize("also_read", [False, True])
@pytest.mark.parametrize(
    "share",
    [
        "Sigmoid",
        "HardSigmoid<alpha: float = 0.16666667, beta: float = 0.5>",
        "HardSigmoid<alpha: float = 0.2, beta: float = 0.5>",
        "HardSigmoid<alpha: float = 0.16666667, beta: float = 0.4>",
    ],
)
def test_silu_and_hard_swish_written_out(call: str, also_read: bool, share: str) -> None:
    rest = "y = Add(z, s)" if also_read else "y = Neg(z)"
    text = one_node(f"s = {share}(x) z = {call} {rest}", "double[?, ?] x")
    check_both(text, {"x": 2.5 * np.random.default_rng(0).standard_normal((3, 4))})


def test_expanded_gradients_are_summed() -> None:
    text = one_node(
        "a = ReduceMean(x, first) b = ReduceSum(x, last) c = Add(a, b) y = Mul(c, x)",
        "double[?, ?] x",
        constants="int64[1] first = {0}, int64[1] last = {1}",
    )
    check_both(text, {"x": np.random.default_rng(0).standard_normal((3, 4))})


def test_only_expanded_gradients_are_summed() -> None:
    text = one_node(
        "a = ReduceMean(x, first) b = ReduceSum(x, last) y = Add(a, b)",
        "double[?, ?] x",
        constants="int64[1] first = {0}, int64[1] last = {1}",
    )
    check_both(text, {"x": np.random.default_rng(0).standard_normal((3, 4))})


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 2.5])
@pytest.mark.parametrize("kind", ["double", "int64"])
def test_power_of_a_constant(exponent: float, kind: str) -> None:
    if kind == "int64" and exponent != int(exponent):
        return
    value = exponent if kind == "double" else int(exponent)
    text = one_node("y = Pow(x, b)", "double[?] x", constants=f"{kind} b = {{{value}}}")
    check_both(text, {"x": np.array([0.3, 1.0, 2.5])})


def test_power_of_several_constants() -> None:
    text = one_node("y = Pow(x, b)", "double[?] x", constants="double[4] b = {0.0, 1.0, 2.0, 3.0}")
    check_both(text, {"x": np.array([0.0, 0.0, -1.5, -2.0])})


def test_power_whose_base_is_zero() -> None:
    text = one_node("y = Pow(a, b)", "double[?] a, double[?] b")
    check_gradient(text, {"a": np.zeros(2), "b": np.array([2.0, 3.0])})


def test_even_power_of_a_negative_base() -> None:
    text = one_node("y = Pow(x, b)", "double[?] x", constants="double b = {2.0}")
    check_both(text, {"x": np.array([-3.0, -0.1, 0.0, 2.0])})


@given(st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_mod(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Away from multiples of b, where fmod jumps.
    b = rng.uniform(0.5, 2, (3, 1)) * rng.choice([-1, 1], (3, 1))
    a = b * (rng.integers(-3, 4, (2, 3, 4)) + rng.uniform(0.1, 0.9, (2, 3, 4)))
    text = one_node("y = Mod<fmod: int = 1>(a, b)", "double[?, ?, ?] a, double[?, ?] b")
    check_both(text, {"a": a, "b": b})
