"""Whether a model computes with quantised numbers."""

from __future__ import annotations

from onnx import ModelProto

from cloakify.onnxfile.walk import iter_graphs


def is_quantised(model: ModelProto) -> bool:
    """Tell whether a model turns numbers into integers of few bits, or multiplies such."""
    return any(
        "Quantize" in node.op_type or "Integer" in node.op_type or node.op_type.startswith("Q")
        for graph in iter_graphs(model.graph)
        for node in graph.node
    )
