"""Packed weights and quantised softmaxes, written out: against ONNX Runtime's own operators."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise

ROWS = 3


def model(node: onnx.NodeProto, shape: tuple[int, ...], constants: dict[str, np.ndarray]):
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", node_type(node), shape)],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node_type(node: onnx.NodeProto) -> int:
    return TensorProto.UINT8 if node.op_type == "QLinearSoftmax" else TensorProto.FLOAT


def written(packed: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    found = specialise(packed, {"x": shape}, has_rule).export()
    assert not {node.domain for node in found.graph.node} - {"", "ai.onnx"}
    return found


# With 8 bits the runtime takes no zero points in floats.
@pytest.mark.parametrize(
    ("bits", "zeros"), [(4, "none"), (4, "packed"), (4, "floats"), (8, "none"), (8, "packed")]
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("columns", "block"), [(48, 16), (40, 16), (32, 32)])
def test_packed_products_are_those_of_the_runtime(bits, zeros, bias, columns, block):
    rng = np.random.default_rng(0)
    outputs, blocks, byte = 5, -(-columns // block), 8 // bits
    constants: dict[str, np.ndarray] = {
        "b": rng.integers(0, 256, (outputs, blocks, block // byte), np.uint8),
        "s": rng.uniform(0.01, 0.1, outputs * blocks).astype(np.float32),
    }
    if zeros == "packed":
        constants["z"] = rng.integers(0, 256, outputs * -(-blocks // byte), np.uint8)
    elif zeros == "floats":
        constants["z"] = rng.uniform(5, 9, outputs * blocks).astype(np.float32)
    if bias:
        constants["c"] = rng.normal(size=outputs).astype(np.float32)
    inputs = ["x", "b", "s", "z" if zeros != "none" else "", "", "c" if bias else ""]
    while not inputs[-1]:
        inputs.pop()
    node = helper.make_node(
        "MatMulNBits",
        inputs,
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=outputs,
        bits=bits,
        block_size=block,
    )
    packed = model(node, (ROWS, columns), constants)
    x = rng.normal(size=(ROWS, columns)).astype(np.float32)
    (expected,) = run_once(packed, {"x": x})
    (found,) = run_once(written(packed, x.shape), {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("axis", "opset", "rank"), [(1, 12, 2), (-1, 17, 2), (1, 17, 3)])
def test_a_quantised_softmax_is_that_of_the_runtime(axis, opset, rank):
    x = np.random.default_rng(1).integers(0, 256, (ROWS, 4, 2)[:rank], np.uint8)
    constants = {
        "s": np.array(0.05, np.float32),
        "z": np.array(100, np.uint8),
        "t": np.array(1 / 256, np.float32),
        "u": np.array(0, np.uint8),
    }
    node = helper.make_node(
        "QLinearSoftmax", ["x", *"sztu"], ["y"], domain="com.microsoft", axis=axis, opset=opset
    )
    quantised = model(node, x.shape, constants)
    (expected,) = run_once(quantised, {"x": x})
    (found,) = run_once(written(quantised, x.shape), {"x": x})
    # Half a step may be rounded either way.
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
