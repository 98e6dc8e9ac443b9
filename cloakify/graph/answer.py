"""Find where a model says which class it takes a sample for, behind its logits."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from cloakify.graph.head import Head
from cloakify.onnxfile import FLOATS

# What may stand between the largest score's index and an output.
_MOVES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze"}


@dataclass(frozen=True)
class Answer:
    """A value that holds a model's answer.

    Attributes
    ----------
    name
        Of the value.
    is_index
        Whether it holds the class's index, the first number of each sample, or else one number for
        each class, as far as declared.
    """

    name: str
    is_index: bool


def answer_of(model: ModelProto, head: Head) -> Answer | None:
    """Return the first output that holds one number for each class, or the index of one.

    ``None`` where there is none, and where the head's logits are an output themselves. Indices are
    those of an `ArgMax`, `ArgMin` or `TopK`: other whole numbers may be labels of any kind.
    """
    if any(output.name == head.logits for output in model.graph.output):
        return None
    for output in model.graph.output:
        kind = output.type.tensor_type
        sizes = [dim.dim_value for dim in kind.shape.dim]
        scores = not sizes or (len(sizes) == 2 and sizes[1] in (0, head.num_classes))
        if kind.elem_type in FLOATS and scores:
            return Answer(output.name, False)
    makers = {name: node for node in model.graph.node for name in node.output}
    for output in model.graph.output:
        name = output.name
        while name in makers and makers[name].op_type in _MOVES:
            name = makers[name].input[0]
        if name in makers and _is_index(makers[name], name):
            return Answer(name, True)
    return None


def _is_index(node: NodeProto, name: str) -> bool:
    """Tell whether a node's output is the index of the largest or smallest of each row."""
    axes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "TopK":
        return name == node.output[1] and axes.get("axis", -1) in (1, -1)
    return node.op_type in ("ArgMax", "ArgMin") and axes.get("axis", 0) in (1, -1)
