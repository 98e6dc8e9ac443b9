"""What a session on CUDA would leave to the CPU of a model that was built here."""

from __future__ import annotations

from onnx import AttributeProto, ModelProto, TensorProto

from cloakify.onnxfile.walk import iter_graphs, iter_tensors
from cloakify.runtime.cuda_placement import Fallback, cuda_placement

# Attributes that name a type.
_TYPES = ("to", "dtype")


# What the rules of operators emit that CUDA has no kernels for either: of `Cosh`, and of `DFT`.
_AMONG_THEIR_LIKE = ("DFT", "Sinh")


def in_single(model: ModelProto) -> ModelProto:
    """Return a model that declares float where this one declares double; its weights mean nothing.

    Rules are checked in double, and attacks run in float32.
    """
    single = ModelProto()
    single.CopyFrom(model)
    for tensor in iter_tensors(single):
        if tensor.data_type == TensorProto.DOUBLE:
            tensor.data_type = TensorProto.FLOAT
            tensor.raw_data = bytes(len(tensor.raw_data) // 2)
    for graph in iter_graphs(single.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for entry in node.attribute:
                named = entry.name in _TYPES and entry.type == AttributeProto.INT
                if named and entry.i == TensorProto.DOUBLE:
                    entry.i = TensorProto.FLOAT
    return single


def appended_fallbacks(model: ModelProto) -> list[Fallback]:
    """Return the nodes that cloakify appended and CUDA would not run; a model has its own."""
    return [
        fallback
        for fallback in cuda_placement(in_single(model)).fallbacks
        if fallback.node.startswith("cloakify") and fallback.op_type not in _AMONG_THEIR_LIKE
    ]
