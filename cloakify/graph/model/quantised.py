"""Whether a model computes with quantised numbers."""

from __future__ import annotations

from onnx import ModelProto

from cloakify.onnxfile.walk import iter_graphs

# Parts of the names of operators that do: `MatMulNBits` may round what it multiplies, too.
_SIGNS = ("Integer", "NBits", "Quantize")


def is_quantised(model: ModelProto) -> bool:
    """Tell whether a model turns numbers into integers of few bits, or multiplies such."""
    return any(
        node.op_type.startswith("Q") or any(sign in node.op_type for sign in _SIGNS)
        for graph in iter_graphs(model.graph)
        for node in graph.node
    )
