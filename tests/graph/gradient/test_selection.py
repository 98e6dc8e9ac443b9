"""Gradient rules of Where, Clip, Min and Max, ties among them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx.reference import ReferenceEvaluator

from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.onnxtext import one_node, unknown
from tests.support.ortcheck import check_both


def gradient(text: str, x: np.ndarray) -> np.ndarray:
    """Return ∂(Σ y)/∂x."""
    model = gradient_model(onnx.parser.parse_model(text), {"x": x.shape}, ["x"])
    found: np.ndarray = ReferenceEvaluator(model).run(None, {"x": x, "seed_y": np.ones(x.shape)})[0]
    return found


@settings(max_examples=15, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
def test_where(shapes: hnp.BroadcastableShapes) -> None:
    rng = np.random.default_rng(0)
    condition, a, b = (np.asarray(rng.standard_normal(shape)) for shape in shapes.input_shapes)
    inputs = ", ".join(
        f"{unknown(kind, value.ndim)} {name}"
        for kind, name, value in (("bool", "c", condition), ("double", "a", a), ("double", "b", b))
    )
    feeds = {"c": np.asarray(condition > 0), "a": a, "b": b}
    check_gradient(one_node("y = Where(c, a, b)", inputs), feeds)


def test_where_in_the_runtime() -> None:
    rng = np.random.default_rng(0)
    text = one_node("c = Greater(a, b) y = Where(c, a, b)", "double[?, ?] a, double[?] b")
    check_both(text, {"a": rng.standard_normal((3, 4)), "b": rng.standard_normal(4)})


@settings(max_examples=15, deadline=None)
@given(
    hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3),
    st.sampled_from(["Max", "Min"]),
)
def test_extreme(shapes: hnp.BroadcastableShapes, op_type: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        name: np.asarray(rng.standard_normal(shape))
        for name, shape in zip("abc", shapes.input_shapes, strict=True)
    }
    inputs = ", ".join(f"{unknown('double', value.ndim)} {name}" for name, value in feeds.items())
    check_both(one_node(f"y = {op_type}(a, b, c)", inputs), feeds)


@pytest.mark.parametrize("call", ["Max(x, zero)", "Min(x, zero)", "Max(x)", "Max(x, x)"])
def test_tied_extremes_give_all_to_the_first(call: str) -> None:
    text = one_node(f"y = {call}", constants="double zero = {0.0}")
    assert gradient(text, np.zeros(3)).tolist() == [1, 1, 1]


def test_tied_extreme_behind_a_constant_gets_nothing() -> None:
    text = one_node("y = Max(zero, x)", constants="double zero = {0.0}")
    assert gradient(text, np.zeros(2)).tolist() == [0, 0]


X = np.array([-2.0, -0.5, 0.3, 0.9, 2.0])


@pytest.mark.parametrize("bounds", ["low, high", "low", ", high", "high, low", ""])
def test_clip(bounds: str) -> None:
    text = one_node(
        f"y = Clip(x{', ' + bounds if bounds else ''})".replace(", , ", ", , "),
        constants="double low = {-1.0}, double high = {1.0}",
    )
    check_both(text, {"x": X})


def test_clip_lets_an_input_leave_its_bound() -> None:
    text = one_node("y = Clip(x, low, high)", constants="double low = {0.0}, double high = {1.0}")
    assert gradient(text, np.array([-0.1, 0.0, 0.5, 1.0, 1.1])).tolist() == [0, 1, 1, 1, 0]


def test_clip_behind_a_convolution_is_a_relu() -> None:
    text = one_node(
        "z = Conv(x, w) y = Clip(z, low, high)",
        "double[?, ?, ?] x",
        constants="double[1, 1, 1] w = {1.0}, double low = {0.0}, double high = {6.0}",
    )
    x = np.array([[[-1.0, 0.0, 3.0, 6.0, 7.0]]])
    assert gradient(text, x).ravel().tolist() == [0, 0, 1, 0, 0]
