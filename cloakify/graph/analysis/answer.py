"""Find where a model says which class it takes a sample for, behind its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from cloakify.graph.analysis.head import Head
from cloakify.graph.model.dataflow import reached_from
from cloakify.onnxfile import FLOATS

# What leaves the shape as it is.
_SAME_SHAPE = {
    *("Abs", "Add", "Cast", "Clip", "Div", "Exp", "Hardmax", "Identity", "Log", "LogSoftmax"),
    *("Mul", "Neg", "Relu", "Sigmoid", "Softmax", "Sub", "Tanh"),
}
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
    num_classes
        C.
    """

    name: str
    is_index: bool
    num_classes: int


def answers_of(model: ModelProto, head: Head) -> tuple[Answer, ...]:
    """Return the outputs that say which class a sample is of, but for the head's logits themselves.

    Those are the ones made of the logits that hold a number for each class, or the index of one. An
    auxiliary layer's scores are no answer where there is another; where no output is made of the
    logits, the first that may be an answer is taken for it. Indices are those of an `ArgMax`,
    `ArgMin` or `TopK`: other whole numbers may be labels of any kind.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    made = reached_from(model.graph.node, [head.logits]).values
    found: dict[Answer, bool] = {}
    for output in model.graph.output:
        name = output.name
        kind = output.type.tensor_type
        if name == head.logits:
            continue
        if kind.elem_type in FLOATS:
            sizes = [dim.dim_value for dim in kind.shape.dim]
            scores = len(sizes) == 2 and sizes[1] in (0, head.num_classes)
            if not kind.HasField("shape"):
                while name in makers and makers[name].op_type in _SAME_SHAPE:
                    name = makers[name].input[0]
                scores = name == head.logits
            if scores:
                found[Answer(output.name, False, head.num_classes)] = output.name in made
            continue
        while name in makers and makers[name].op_type in _MOVES:
            name = makers[name].input[0]
        if name in makers and _is_index(makers[name], name):
            found[Answer(name, True, head.num_classes)] = output.name in made
    own = tuple(answer for answer, of_logits in found.items() if of_logits)
    if own or any(output.name == head.logits for output in model.graph.output):
        return own
    return tuple(found)[:1]


def _is_index(node: NodeProto, name: str) -> bool:
    """Tell whether a node's output is the index of the largest or smallest of each row."""
    axes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "TopK":
        return name == node.output[1] and axes.get("axis", -1) in (1, -1)
    return node.op_type in ("ArgMax", "ArgMin") and axes.get("axis", 0) in (1, -1)


def agreeing(
    answers: Sequence[Answer],
    values: Sequence[NDArray[np.generic]],
    classes: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell for which samples every answer is one of these classes.

    Parameters
    ----------
    answers, values
        The answers and what they hold for n samples, [n, …] each.
    classes
        A class for each sample, int64 [n].
    """
    rows = np.arange(len(classes))
    agree = np.ones(len(classes), np.bool_)
    for answer, held in zip(answers, values, strict=True):
        if answer.is_index:
            agree &= held[:, 0] == classes
        elif held.shape[1] == answer.num_classes:
            # Probabilities may be rounded to the same number, which decides nothing.
            agree &= held[rows, classes] >= held.max(axis=1)
    return agree
