"""`CastLike` as the `Cast` that it is once types are known: of its second input it reads no value.

What is told of a value's sources then follows the first input alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import NodeProto

from cloakify.graph.model.rewrite import Shapes, Writer

OPERATORS = ("CastLike",)


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a node out; :func:`unsupported_reason` must have had nothing against it."""
    writer.op("Cast", node.input[0], to=types[node.input[1]], output=node.output[0])


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a node can't be written out; ``None`` if it can."""
    return None if node.input[1] in shapes else "reads a tensor of unknown type"
