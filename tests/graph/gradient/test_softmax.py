"""Gradient rules of the softmax family."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.gradcheck import check_gradient
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


def test_a_row_that_is_all_masked_has_no_gradient():
    """Exported attention looks for NaN behind its softmax; the other rows are as ever."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    f (double[3, 4] x) => (double[3, 4] y) {
        low = Constant <value = double[3, 1] {0, -inf, 0}> ()
        zero = Constant <value = double {0}> ()
        masked = Add (x, low)
        share = Softmax (masked)
        missing = IsNaN (share)
        y = Where (missing, zero, share)
    }"""
    model = onnx.parser.parse_model(text.replace("{0, -inf, 0}", "{0, 0, 0}"))
    low = np.array([[0.0], [-np.inf], [0.0]])
    model.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(low))
    check_gradient(model, {"x": np.random.default_rng(0).standard_normal((3, 4))})
