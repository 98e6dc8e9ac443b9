"""Compute 16-bit floats in 32 bits: gradients do not underflow there."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from cloakify.graph.lowering.state import Lowering
from cloakify.onnxfile import HALVES, values_of
from cloakify.onnxfile.walk import iter_graphs


def widen_halves(lowering: Lowering) -> bool:
    """Turn float16 and bfloat16 into float32 everywhere: values, constants and casts."""
    model, weights = lowering.model, lowering.weights
    # What is declared of inner values does not hold any more.
    del model.graph.value_info[:]
    for name in list(weights):
        weights[name] = _wide(weights[name])
    for tensor in model.graph.initializer:
        tensor.CopyFrom(_wide(tensor))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = (node for graph in iter_graphs(model.graph) for node in graph.node)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_wide(attribute.t))
            elif attribute.name in ("to", "dtype") and attribute.i in HALVES:
                attribute.i = TensorProto.FLOAT
    return True


def _wide(tensor: TensorProto) -> TensorProto:
    if tensor.data_type not in HALVES:
        return tensor
    values = values_of(tensor).astype(np.float32)
    return onnx.numpy_helper.from_array(values, tensor.name)
