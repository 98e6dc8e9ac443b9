"""Means and gates of channels, as squeeze and excitation writes them."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import onnx
import pytest

from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import one_node, unknown
from tests.support.ortcheck import check_both

SQUEEZE_AND_EXCITATION = """<ir_version: 8, opset_import: ["" : 18]>
f (double[2, 2, 3, 4] x) => (double[2, 2, 3, 4] y)
<int64[2] axes = {AXES}, double[2, 2, 1, 1] w = {0.5, -1.0, 1.5, 0.25}> {
    mean = ReduceMean<keepdims = 1>(x, axes)
    squeezed = Conv(mean, w)
    gate = GATE(squeezed)
    scaled = Mul(ORDER)
    y = Conv(scaled, w)
}"""


def _text(axes: str = "2, 3", gate: str = "Sigmoid", order: str = "x, gate") -> str:
    text = SQUEEZE_AND_EXCITATION.replace("AXES", axes)
    return text.replace("GATE", gate).replace("ORDER", order)


@pytest.mark.parametrize("axes", ["2, 3", "-1, -2"])
@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
@pytest.mark.parametrize("order", ["x, gate", "gate, x"])
def test_squeeze_and_excitation(axes: str, gate: str, order: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 4))
    check_both(_text(axes, gate, order), {"x": x})


def test_no_operator_leaves_the_blocks_of_channels() -> None:
    model = onnx.parser.parse_model(_text().replace("double", "float"))
    found = Counter(
        node.op_type for node in gradient_model(model, {"x": (2, 2, 3, 4)}, ["x"]).graph.node
    )
    # The means over positions and their gradient, the gate at each position, and its sum.
    assert found["GlobalAveragePool"] == 2
    assert found["Resize"] == 2
    assert not found.keys() & {"ReduceMean", "ReduceSum", "Expand", "Sub"}


def test_gates_that_no_convolution_reads_stay() -> None:
    text = _text().replace("double", "float").replace("y = Conv(scaled, w)", "y = Relu(scaled)")
    model = gradient_model(onnx.parser.parse_model(text), {"x": (2, 2, 3, 4)}, ["x"])
    (product,) = (node for node in model.graph.node if "scaled" in node.output)
    assert list(product.input) == ["x", "gate"]


@pytest.mark.parametrize("axes", list(itertools.combinations(range(5), 2)))
def test_means_of_what_is_no_image(axes: tuple[int, int]) -> None:
    """Of volumes, the axes that are an image's positions are not all there are."""
    call = "m = ReduceMean<keepdims = 1>(x, axes)  y = Mul(x, m)"
    constants = f"int64[2] axes = {{{axes[0]}, {axes[1]}}}"
    text = one_node(call, unknown("double", 5) + " x", constants=constants)
    check_both(text, {"x": np.random.default_rng(0).standard_normal((2, 3, 2, 3, 2))})


RESIDUAL = """<ir_version: 8, opset_import: ["" : 18]>
f (double[2, 2, 4, 4] x) => (double[2, 2, 2, 2] y)
<double[2, 2, 1, 1] w = {0.5, -1.0, 1.5, 0.25}> {
    a = Conv(x, w)
    b = Sigmoid(a)
    c = Conv<strides = [2, 2]>(b, w)
    d = Conv(b, w)
    e = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d)
    y = Add(c, e)
}"""


def test_what_leaves_the_blocks_is_brought_back_where_it_meets_such() -> None:
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 4))
    check_both(RESIDUAL, {"x": x})
    narrow = onnx.parser.parse_model(RESIDUAL.replace("double", "float"))
    model = gradient_model(narrow, {"x": x.shape}, ["x"])
    made = {name: node for node in model.graph.node for name in node.output}
    (total,) = (node for node in model.graph.node if node.op_type == "Sum")
    # The transposed convolution has plain layout, the gradient through the other one has not.
    assert sorted(made[name].op_type for name in total.input) == ["AveragePool", "Conv"]
    places = {name: place for place, node in enumerate(model.graph.node) for name in node.output}
    for place, node in enumerate(model.graph.node):
        assert all(places.get(name, -1) < place for name in node.input)


KEPT = """<ir_version: 8, opset_import: ["" : 18]>
f (double[2, 2, 4, 4] x) => (double[2, 2, 4, 4] y)
<double[2, 2, 1, 1] w = {0.5, -1.0, 1.5, 0.25}> {
    a = Conv(x, w)
    s = Sigmoid(a)
    m = Mul(a, s)
    c = Conv(m, w)
    d = Conv(a, w)
    y = Add(c, d)
}"""


def test_what_never_left_the_blocks_is_not_brought_back() -> None:
    """Also where a rule has written several operators, whose shapes nobody has told."""
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 4))
    check_both(KEPT, {"x": x})
    narrow = onnx.parser.parse_model(KEPT.replace("double", "float"))
    found = {node.op_type for node in gradient_model(narrow, {"x": x.shape}, ["x"]).graph.node}
    assert "Sum" in found and "AveragePool" not in found


CROPPED = """<ir_version: 8, opset_import: ["" : 18]>
f (double[2, 2, 4, 4] x) => (double[2, 2, 3, 3] y, double[2, 2, 4, 4] z)
<double[2, 2, 1, 1] w = {0.5, -1.0, 1.5, 0.25}, int64[2] low = {0, 0}, int64[2] high = {3, 3},
 int64[2] axes = {2, 3}> {
    a = Conv(x, w)
    b = Sigmoid(a)
    c = Slice(b, low, high, axes)
    y = Conv(c, w)
    z = Conv(b, w)
}"""


def test_zeros_around_a_tensor_that_meets_such() -> None:
    """The runtime merges padding into the pool behind it, and then refuses the pool."""
    check_both(CROPPED, {"x": np.random.default_rng(0).standard_normal((2, 2, 4, 4))})


@pytest.mark.parametrize("order", ["a, s", "s, a"])
def test_silu_of_a_convolution(order: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    f (double[2, 2, 3, 3] x) => (double y)
    <double[2, 2, 1, 1] w = {{0.5, -1.0, 1.5, 0.25}}> {{
        a = Conv(x, w)
        s = Sigmoid(a)
        y = Mul({order})
    }}"""
    check_both(text, {"x": 4 * np.random.default_rng(0).standard_normal((2, 2, 3, 3))})
