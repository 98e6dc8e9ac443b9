"""Gradient rules of the softmax family."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.onnxtext import one_node, unknown
from tests.support.ortcheck import check_both


@settings(max_examples=15, deadline=None)
@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), st.integers(-4, 3), st.integers(0, 99))
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_axis(op_type: str, shape: tuple[int, ...], axis: int, seed: int) -> None:
    rank = len(shape)
    axis = max(-rank, min(axis, rank - 1))
    text = one_node(f"y = {op_type}<axis: int = {axis}>(x)", f"{unknown('double', rank)} x")
    check_both(text, {"x": 3 * np.random.default_rng(seed).standard_normal(shape)})


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_logits_far_apart(op_type: str) -> None:
    check_both(one_node(f"y = {op_type}(x)"), {"x": np.array([-200.0, 0.0, 80.0, 79.0])})


def test_written_out_by_an_exporter() -> None:
    text = one_node(
        "m = ReduceMax(x, last) c = Sub(x, m) e = Exp(c) s = ReduceSum(e, last) y = Div(e, s)",
        "double[?, ?] x",
        constants="int64[1] last = {-1}",
    )
    check_both(text, {"x": np.random.default_rng(0).standard_normal((3, 5))})
