"""Gradient rules of elementary functions, and of operators through which nothing flows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.gradcheck import check_gradient
from tests.support.onnxtext import one_node, unknown
from tests.support.ortcheck import check_both, check_runtime

# Where each function is smooth; a kink would have no central difference.
SMOOTH = {
    "Neg": (-3, 3),
    "Abs": (0.1, 3),
    "Exp": (-3, 3),
    "Log": (0.1, 5),
    "Sqrt": (0.1, 5),
    "Reciprocal": (0.2, 3),
    "Erf": (-3, 3),
    "Sin": (-4, 4),
    "Cos": (-4, 4),
    "Tan": (-1.3, 1.3),
    "Asin": (-0.9, 0.9),
    "Acos": (-0.9, 0.9),
    "Atan": (-4, 4),
    "Sinh": (-3, 3),
    "Cosh": (-3, 3),
    "Tanh": (-3, 3),
    "Asinh": (-4, 4),
    "Acosh": (1.1, 5),
    "Atanh": (-0.9, 0.9),
}


@settings(max_examples=10)
@given(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), st.integers(0, 99))
@pytest.mark.parametrize("op_type", sorted(SMOOTH))
def test_function(op_type: str, shape: tuple[int, ...], seed: int) -> None:
    low, high = SMOOTH[op_type]
    x = np.random.default_rng(seed).uniform(low, high, shape)
    check_gradient(
        one_node(f"y = {op_type}(x)", f"{unknown('double', len(shape))} x"), {"x": np.asarray(x)}
    )


@pytest.mark.parametrize("op_type", sorted(SMOOTH))
def test_the_runtime_has_the_kernels(op_type: str) -> None:
    x = np.linspace(*SMOOTH[op_type], 12).reshape(3, 4)
    check_runtime(one_node(f"y = {op_type}(x)", "double[?, ?] x"), {"x": x})


def test_abs_below_zero_and_at_zero() -> None:
    check_gradient(one_node("y = Abs(x)"), {"x": np.array([-2.0, -0.5, 0.5])})
    check_gradient(one_node("y = Abs(x)"), {"x": np.zeros(3)})


@given(
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_cumsum(
    shape: tuple[int, ...], axis: int, negative: bool, exclusive: bool, reverse: bool
) -> None:
    axis = axis % len(shape) - (len(shape) if negative else 0)
    text = one_node(
        f"y = CumSum<exclusive: int = {int(exclusive)}, reverse: int = {int(reverse)}>(x, axis)",
        f"{unknown('double', len(shape))} x",
        constants=f"int64 axis = {{{axis}}}",
    )
    check_both(text, {"x": np.random.default_rng(0).standard_normal(shape)})


@pytest.mark.parametrize(
    "body",
    [
        "z = Floor(x)",
        "z = Ceil(x)",
        "z = Round(x)",
        "z = Sign(x)",
        "z = Hardmax(x)",
        "c = Greater(x, x) z = Cast<to: int = 11>(c)",
        "c = IsNaN(x) z = Cast<to: int = 11>(c)",
        "c = ArgMax(x) z = Cast<to: int = 11>(c)",
        "c = Shape(x) z = Cast<to: int = 11>(c)",
    ],
)
def test_nothing_flows_through(body: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
        f (double[?, ?] x) => (double y) {{
            {body.replace(") ", ") ")}
            total = ReduceSum<keepdims: int = 0>(z)
            y = Mul(x, total)
        }}"""
    check_gradient(text, {"x": np.random.default_rng(0).uniform(0.6, 0.9, (3, 4))})
