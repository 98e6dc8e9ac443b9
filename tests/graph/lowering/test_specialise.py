"""Working copies: fixed shapes, cut at what is wanted, no 16-bit floats."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.errors import ModelError
from cloakify.graph.attack_steps.build import GRADIENT, LABELS, GradientSpec, build_gradient
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise

CLASSIFIER = """<ir_version: 8, opset_import: ["" : 12, "ai.onnx.ml" : 2]>
f (float[N, 4] x) => (int64[N] label, seq(map(int64, float)) probabilities)
<float[4, 3] w = {0.1, 0.4, 0.3, 0.2, -0.5, 0.1, 1, 2, 3, 0.3, 0.2, 0.9}> {
    z = MatMul(x, w)
    p = Softmax(z)
    label = ArgMax<axis: int = 1, keepdims: int = 0>(p)
    probabilities = ai.onnx.ml.ZipMap<classlabels_int64s: ints = [0, 1, 2]>(p)
}"""


def test_what_comes_after_the_logits_is_dropped() -> None:
    model = onnx.parser.parse_model(CLASSIFIER)
    working = specialise(model, {"x": (2, 4)}, outputs=["z"])
    assert [node.op for node in working.graph.nodes] == ["MatMul"]
    gradient = build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "z"))
    assert {entry.domain for entry in gradient.opset_import} <= {"", "ai.onnx"}
    onnx.checker.check_model(gradient, full_check=True)


def test_what_is_wanted_twice_is_one_output() -> None:
    # The shapes of quantised products with axes of one are read off a run.
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>
        f (float[N, 4] x) => (float[N, M] z)
        <float[4, 3] w = {0.1, 0.4, 0.3, 0.2, -0.5, 0.1, 1, 2, 3, 0.3, 0.2, 0.9}> {
            z = com.microsoft.FusedMatMul(x, w)
        }"""
    )
    working = specialise(model, {"x": (2, 4)}, outputs=["z", "z"])
    assert list(working.tensor("z").shape) == [2, 3]
    gradient = build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "z", features="z"))
    assert len(gradient.graph.output) == 4


@pytest.mark.parametrize("batch", [1, 3])
def test_sizes_below_0_are_open(batch: int) -> None:
    model = onnx.parser.parse_model(CLASSIFIER)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    working = specialise(model, {"x": (batch, 4)}, outputs=["z"])
    assert list(working.tensor("z").shape) == [batch, 3]


def test_shape_arithmetic_is_folded() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 2, H, W] x) => (float y) <int64[1] rest = {-1}> {
            n = Shape<start: int = 0, end: int = 1>(x)
            s = Concat<axis: int = 0>(n, rest)
            y = Reshape(x, s)
        }"""
    )
    graph = specialise(model, {"x": (3, 2, 4, 5)}).graph
    assert [node.op for node in graph.nodes] == ["Reshape"]
    assert tuple(graph.outputs[0].shape) == (3, 40)


def test_a_shape_that_does_not_fit_is_named() -> None:
    with pytest.raises(ModelError, match="'x' takes shape"):
        specialise(onnx.parser.parse_model(CLASSIFIER), {"x": (2, 5)}, outputs=["z"])


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "double", "float"])
def test_gradients_are_computed_in_at_least_float32(kind: str) -> None:
    number = {"float16": 10, "bfloat16": 16, "double": 11, "float": 1}[kind]
    text = f"""<ir_version: 8, opset_import: ["" : 18]> f (float[N, 3] x) => (float y)
    <float[3, 3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 10}}> {{
        a = Cast<to: int = {number}>(x)
        v = Cast<to: int = {number}>(w)
        b = MatMul(a, v)
        c = Tanh(b)
        y = Cast<to: int = 1>(c)
    }}"""
    x = np.array([[0.1, -0.2, 0.05], [0.01, 0.02, 0.1]], np.float32)
    model = build_gradient(onnx.parser.parse_model(text), {"x": x.shape}, GradientSpec("x", "y"))
    outputs = [value.name for value in model.graph.output]
    found = dict(zip(outputs, run_once(model, {"x": x, LABELS: np.array([0, 2])}), strict=True))
    w = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 10]], np.float64)
    y = np.tanh(x.astype(np.float64) @ w)
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    expected = ((p - np.eye(3)[[0, 2]]) * (1 - y**2)) @ w.T
    np.testing.assert_allclose(found[GRADIENT], expected, rtol=1e-4, atol=1e-5)


def test_a_half_precision_input_gets_a_gradient_in_float() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> f (float16[N, 3] x) => (float16 y) {
        y = Relu(x)
    }"""
    model = build_gradient(onnx.parser.parse_model(text), {"x": (2, 3)}, GradientSpec("x", "y"))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    assert types[GRADIENT] == onnx.TensorProto.FLOAT
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
