"""Gradient rules of pooling."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import ModelError, UnsupportedOperatorError
from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import attributes, one_node, unknown
from tests.support.ortcheck import check_both


def _per_axis(low: int, high: int, rank: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=rank, max_size=rank)


@st.composite
def pools(draw: st.DrawFn, op_type: str, opset: int) -> tuple[str, dict[str, np.ndarray]]:
    rank = draw(st.integers(1, 3))
    kernel = draw(_per_axis(1, 3, rank))
    dilations = draw(_per_axis(1, 2, rank))
    # ONNX Runtime and onnx's shape inference disagree about windows with gaps between them.
    strides = [draw(st.integers(1, k)) for k in kernel]
    given: dict[str, object] = {"kernel_shape": kernel, "strides": strides}
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto == "NOTSET":
        # A window must not lie in the padding alone.
        given["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        # ONNX Runtime drops a last window that begins beyond the data, onnx's inference does not.
        inside = all(
            p <= k - s for p, k, s in zip(given["pads"][rank:], kernel, strides, strict=True)
        )
        given["ceil_mode"] = draw(st.booleans()) if inside else False
        given["dilations"] = dilations
    else:
        given["auto_pad"] = auto
        dilations = [1] * rank
    if op_type == "AveragePool":
        given["count_include_pad"] = draw(st.booleans())
    if op_type == "LpPool":
        # Windows that would begin beyond the data are dropped by onnx's inference for other pools.
        given.pop("ceil_mode", None)
        # Left out, p is 2.
        given["p"] = draw(st.sampled_from([None, 1, 2, 3]))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [e + draw(st.integers(0, {1: 8, 2: 5, 3: 3}[rank])) for e in extent]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    text = one_node(
        f"y = {op_type}{attributes(**given)}(x)", f"{unknown('double', rank + 2)} x", opset
    )
    return text, {"x": rng.standard_normal((2, 2, *size))}


@given(pools("MaxPool", 12))
@settings(max_examples=25, deadline=None)
def test_max_pool(case: tuple[str, dict[str, np.ndarray]]) -> None:
    check_both(*case)


@given(pools("AveragePool", 19))
@settings(max_examples=25, deadline=None)
def test_average_pool(case: tuple[str, dict[str, np.ndarray]]) -> None:
    check_both(*case)


@given(pools("LpPool", 18))
@settings(max_examples=25, deadline=None)
def test_lp_pool(case: tuple[str, dict[str, np.ndarray]]) -> None:
    check_both(*case)


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_global_pool(op_type: str, size: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *size))
    check_both(one_node(f"y = {op_type}(x)", f"{unknown('double', x.ndim)} x"), {"x": x})


@pytest.mark.parametrize("p", [1, 2, 3, None])
def test_global_lp_pool(p: int | None) -> None:
    """Left out, p is 2."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 2))
    text = one_node(f"y = GlobalLpPool{attributes(p=p)}(x)", "double[?, ?, ?, ?] x")
    check_both(text, {"x": x})


@pytest.mark.parametrize("axis", [0, 1])
def test_storage_order_concerns_indices_alone(axis: int) -> None:
    x = np.random.default_rng(axis).standard_normal((2, 2, 5, 4))
    strides = [2, 1] if axis else [1, 2]
    call = f"y = MaxPool<kernel_shape = [2, 3], strides = {strides}, storage_order = 1>(x)"
    check_both(one_node(call, "double[?, ?, ?, ?] x"), {"x": x})


def test_indices_in_the_other_storage_order_are_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (double[1, 1, 4, 4] x) => (double y, int64 i)
        { y, i = MaxPool<kernel_shape = [2, 2], storage_order = 1>(x) }"""
    model = onnx.parser.parse_model(text)
    with pytest.raises(UnsupportedOperatorError, match="storage_order"):
        gradient_model(model, {"x": (1, 1, 4, 4)}, ["x"])


def test_parts_of_which_some_are_pooled() -> None:
    """What comes back through a pool has the same type as what comes back past it."""
    text = one_node(
        "a, b = Split<axis = 1, num_outputs = 2>(x)  "
        "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)  q = GlobalAveragePool(p)  "
        "r = Tanh(b)  y = Add(q, r)",
        "double[?, ?, ?, ?] x",
    )
    check_both(text, {"x": np.random.default_rng(0).standard_normal((2, 4, 4, 4))})


@pytest.mark.parametrize("opset", [18, 22])
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("op_type", ["AveragePool", "MaxPool", "LpPool"])
def test_a_last_window_beyond_the_data_is_dropped(op_type: str, include: int, opset: int) -> None:
    # Seven, one of padding at each end, windows of two: the fifth would begin behind the data.
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 9))
    attribute = f"count_include_pad = {include}, " if op_type == "AveragePool" else ""
    call = (
        f"p = {op_type}<{attribute}kernel_shape = [2, 2], strides = [2, 2], "
        "pads = [1, 1, 1, 1], ceil_mode = 1>(x) y = GlobalAveragePool(p)"
    )
    check_both(one_node(call, "double[?, ?, ?, ?] x", opset), {"x": x})


def test_ceil_mode_that_one_axis_needs_and_another_must_not_have_is_refused() -> None:
    call = (
        "y = AveragePool<kernel_shape = [2, 3], strides = [2, 2], "
        "pads = [1, 0, 1, 0], ceil_mode = 1>(x)"
    )
    model = onnx.parser.parse_model(one_node(call, "double[?, ?, ?, ?] x"))
    with pytest.raises(ModelError, match="beyond the data"):
        gradient_model(model, {"x": (1, 1, 7, 6)}, ["x"])


@pytest.mark.parametrize("op_type", ["AveragePool", "MaxPool"])
def test_dilated_windows_with_auto_pad_are_refused(op_type: str) -> None:
    call = f'y = {op_type}<kernel_shape = [2], dilations = [2], auto_pad = "SAME_UPPER">(x)'
    model = onnx.parser.parse_model(one_node(call, "double[?, ?, ?] x", 19))
    with pytest.raises(UnsupportedOperatorError, match="dilated"):
        gradient_model(model, {"x": (1, 1, 8)}, ["x"])


@given(
    _per_axis(1, 4, 2),
    _per_axis(1, 3, 2),
    _per_axis(0, 2, 2),
    st.integers(1, 3),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_the_first_of_equals_has_the_gradient_of_windows_side_by_side(
    kernel: list[int], count: list[int], rest: list[int], values: int, seed: int
) -> None:
    """By a search through every window; with few values, ties are the rule."""
    rng = np.random.default_rng(seed)
    size = [n * k + min(r, k - 1) for n, k, r in zip(count, kernel, rest, strict=True)]
    x = rng.integers(0, values, (2, 3, *size)).astype(np.float32)
    g = rng.standard_normal((2, 3, *count)).astype(np.float32)
    call = f"y = MaxPool<kernel_shape = {kernel}, strides = {kernel}>(x)"
    model = onnx.parser.parse_model(one_node(call, "float[?, ?, ?, ?] x"))
    built = gradient_model(model, {"x": x.shape}, ["x"])
    # Indices are slow to find, and to scatter by.
    assert "ScatterElements" not in {node.op_type for node in built.graph.node}
    (seed_input,) = {value.name for value in built.graph.input} - {"x"}
    session = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x, seed_input: g})[-1]
    expected = np.zeros_like(x)
    for *image, row, column in np.ndindex(g.shape):
        corner = row * kernel[0], column * kernel[1]
        window = x[(*image, *(slice(c, c + k) for c, k in zip(corner, kernel, strict=True)))]
        step = np.unravel_index(window.argmax(), window.shape)
        place = tuple(c + s for c, s in zip(corner, step, strict=True))
        expected[(*image, *place)] = g[(*image, row, column)]
    np.testing.assert_array_equal(found, expected)
