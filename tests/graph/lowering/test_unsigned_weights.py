"""Products of unsigned features and signed weights are exact, on every processor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.numpy_helper import from_array

from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.pass_list import PASSES
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import lower
from cloakify.graph.model.weights import SMALL, drop_inputs

ONE = "<float one = {1}, float s = {509}, uint8 o = {0}>"
FORMS = {
    "MatMulInteger": "y = MatMulInteger (x, w, o, z)",
    "MatMulInteger, no zero": "y = MatMulInteger (x, w)",
    "ConvInteger": "y = ConvInteger (x, w, o, z)",
    "QLinearMatMul": "y = QLinearMatMul (x, one, o, w, one, z, s, o)",
    "QLinearConv": "y = QLinearConv (x, one, o, w, one, z, s, o)",
    "QGemm": "y = com.microsoft.QGemm <alpha = 1.0> (x, one, o, w, one, z, , s, o)",
}


def product(form: str, weight: np.ndarray, zero: np.ndarray, shape: tuple[int, ...]):
    """A model of one product of integers."""
    sizes = ", ".join(str(size) for size in shape)
    kind = "int32" if "Integer" in form else "uint8"
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> '
        f"f (uint8[{sizes}] x) => ({kind}[A, B] y) {ONE} {{ {FORMS[form]} }}"
    )
    read = {name for node in model.graph.node for name in node.input}
    tensors = {"w": weight, "z": zero}
    model.graph.initializer.extend(from_array(tensors[name], name) for name in read & {*tensors})
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="y"))
    return model


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 99), depth=st.integers(1, 40), far=st.booleans())
def test_products_are_those_of_whole_numbers(form: str, seed: int, depth: int, far: bool) -> None:
    generator = np.random.default_rng(seed)
    low = (250, 120) if far else (0, -128)
    x = generator.integers(low[0], 256, (3, depth), np.uint8)
    weight = generator.integers(low[1], 128, (depth, 5), np.int8)
    zero = np.array(0 if "no zero" in form else generator.integers(-128, 128), np.int8)
    exact = x.astype(np.int64) @ (weight.astype(np.int64) - int(zero))
    if "Conv" in form:
        x, weight = x[:, :, None, None], weight.T[:, :, None, None].copy()
    model = product(form, weight, zero, x.shape)
    lowering = lower(model, {"x": x.shape}, has_rule, ["y"], PASSES)
    drop_inputs(lowering.model, lowering.weights)
    lowering.model.graph.initializer.extend(lowering.weights.values())
    (found,) = run_once(lowering.model, {"x": x})
    if "Integer" not in form:
        exact = np.clip(np.rint(exact / 509), 0, 255).astype(np.int64)
    np.testing.assert_array_equal(found.reshape(exact.shape), exact)


def test_large_weights_stay_laid_aside() -> None:
    weight = np.full((64, 64), -100, np.int8)
    assert weight.size > SMALL
    model = product("MatMulInteger", weight, np.array(3, np.int8), (2, 64))
    lowering = lower(model, {"x": (2, 64)}, has_rule, ["y"], PASSES)
    (name,) = (node.input[1] for node in lowering.model.graph.node if "Integer" in node.op_type)
    assert lowering.weights[name].data_type == TensorProto.UINT8
    assert name not in {tensor.name for tensor in lowering.model.graph.initializer}
    assert np.array_equal(
        onnx.numpy_helper.to_array(lowering.weights[name]), weight + np.int16(128)
    )
