"""Small operators of ONNX Runtime, written out (domain ``com.microsoft``).

    ExpandDims(x, axis)    Unsqueeze(x, axis)
    CDist(A, B)            ‖a − b‖² for each row a of A and b of B, or ‖a − b‖ (metric euclidean)

As converters of scikit-learn (neighbours, kernels) and older ones of transformers write them.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import NodeProto, TensorProto

from cloakify.graph.model.rewrite import Shapes, Writer, attribute

OPERATORS = ("CDist", "ExpandDims")

_METRICS = {"euclidean": "ReduceL2", "sqeuclidean": "ReduceSumSquare"}


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a node can't be written out; ``None`` if it can."""
    if any(name not in shapes for name in node.input):
        return "reads a tensor of unknown shape"
    metric = attribute(node, "metric", "sqeuclidean")
    return f"has the metric {metric!r}" if metric not in _METRICS else None


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a node out; :func:`unsupported_reason` must have had nothing against it."""
    (output,) = node.output
    if node.op_type == "ExpandDims":
        axis = writer.op("Cast", node.input[1], to=TensorProto.INT64)
        axes = writer.op("Reshape", axis, writer.ints(1))
        writer.op("Unsqueeze", node.input[0], axes, output=output)
        return
    rows = writer.op("Unsqueeze", node.input[0], writer.ints(1))
    others = writer.op("Unsqueeze", node.input[1], writer.ints(0))
    apart = writer.op("Sub", rows, others)
    distance = _METRICS[attribute(node, "metric", "sqeuclidean")]
    writer.op(distance, apart, writer.ints(2), output=output, keepdims=0)
