"""Find where a model says which class it takes a sample for, behind its logits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto

from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import MIDDLE, Boundary, Task
from cloakify.graph.model.dataflow import reached_from
from cloakify.onnxfile import FLOATS
from cloakify.onnxfile.domains import ML

# What leaves the shape as it is.
_SAME_SHAPE = {
    *("Abs", "Add", "Cast", "Clip", "Div", "Exp", "Hardmax", "Identity", "Log", "LogSoftmax"),
    *("Mul", "Neg", "Relu", "Sigmoid", "Softmax", "Sub", "Tanh"),
}
# What may stand between the largest score's index and an output.
_MOVES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Not"}
# Whole numbers that classifiers of ai.onnx.ml call their classes.
_LABELS = {"classlabels_ints", "classlabels_int64s"}
_COMPARISONS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual"}


@dataclass(frozen=True)
class Answer:
    """A value that holds a model's answer.

    Attributes
    ----------
    name
        Of the value.
    form
        ``index``: of the class, the first number of each sample; of labels, 0 or 1 for each.
        ``scores``: a number for each class, as far as declared. ``probability``: that of class 1 of
        two, or of each label.
    num_classes
        C.
    boundary
        Of a probability: where class 1 begins.
    """

    name: str
    form: Literal["index", "scores", "probability"]
    num_classes: int
    boundary: Boundary = MIDDLE


def answers_of(model: ModelProto, scores: Scores) -> tuple[Answer, ...]:
    """Return the outputs that say which class a sample is of, but for the logits themselves.

    Those are the ones made of the logits that hold a number for each class, or the index of one. An
    auxiliary layer's scores are no answer where there is another; where no output is made of the
    logits, the first that may be an answer is taken for it. Indices are those of an `ArgMax`,
    `ArgMin` or `TopK`, of one logit's comparison, and the labels 0, 1, … of ai.onnx.ml's
    classifiers: other whole numbers may be labels of any kind.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    made = reached_from(model.graph.node, [scores.shipped]).values
    candidates: dict[Answer, bool] = {}
    outputs = [output for output in model.graph.output if output.name in scores.outputs]
    for output in outputs:
        answer = _answer(output, makers, scores)
        if answer is not None:
            candidates[answer] = output.name in made
    own = tuple(answer for answer, of_logits in candidates.items() if of_logits)
    if own or scores.shipped in scores.outputs:
        return own
    return tuple(candidates)[:1]


def _answer(
    output: ValueInfoProto, makers: Mapping[str, NodeProto], scores: Scores
) -> Answer | None:
    """Describe an output as an answer, or return ``None`` where it is none."""
    if output.name == scores.shipped:
        return None
    kind, count = output.type.tensor_type, scores.num_classes
    index = _behind(output.name, makers, _MOVES)
    single, independent = scores.task is Task.SINGLE, scores.task is Task.MULTILABEL
    if not independent and index in makers and _is_index(makers[index], index):
        return Answer(index, "index", count)
    if not single and index in makers and makers[index].op_type in _COMPARISONS:
        # What was turned around since is the answer.
        return Answer(output.name, "index", count)
    if kind.elem_type not in FLOATS:
        return None
    if not single and _is_probability(output.name, makers, scores.shipped):
        return Answer(output.name, "probability", count, scores.boundary)
    if independent or (single and not scores.boundary.rising):
        return None
    before = _behind(output.name, makers, _SAME_SHAPE | _MOVES, scores.shipped)
    maker = makers.get(before) if before != scores.shipped else None
    if maker is not None and maker.op_type in ("TopK", "Transpose"):
        # In the order of their size, whichever classes they are of; classes first, samples behind.
        return None
    if kind.HasField("shape"):
        sizes = [dim.dim_value for dim in kind.shape.dim]
        is_scores = len(sizes) == 2 and sizes[1] in (0, count)
    else:
        is_scores = _behind(output.name, makers, _SAME_SHAPE) == scores.shipped
    return Answer(output.name, "scores", count) if is_scores else None


def _behind(
    name: str, makers: Mapping[str, NodeProto], passed: Collection[str], end: str = ""
) -> str:
    """Return the value that another was made of by nothing but operators of some kinds.

    No further than that called ``end``.
    """
    while name != end and name in makers and makers[name].op_type in passed:
        name = makers[name].input[0]
    return name


def _is_probability(name: str, makers: Mapping[str, NodeProto], logit: str) -> bool:
    """Tell whether a value is the sigmoid of the logit."""
    node = makers.get(_behind(name, makers, _MOVES))
    if node is None or node.op_type != "Sigmoid":
        return False
    return _behind(node.input[0], makers, _MOVES) == _behind(logit, makers, _MOVES)


def _is_index(node: NodeProto, name: str) -> bool:
    """Tell whether a node's output is the index of the largest or smallest of each row."""
    axes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.domain == ML and node.op_type.endswith("Classifier"):
        labels = [list(entry.ints) for entry in node.attribute if entry.name in _LABELS]
        return name == node.output[0] and any(
            each == [*range(len(each))] for each in labels if each
        )
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
        A class for each sample, int64 [n], or K labels [n, K] of 0 and 1.
    """
    rows = np.arange(len(classes))
    agree = np.ones(len(classes), np.bool_)
    for answer, held in zip(answers, values, strict=True):
        wanted = classes if classes.ndim == 2 else classes[:, None]
        told = held[:, : wanted.shape[1]]
        # Probabilities may be rounded to the same number, which decides nothing.
        if answer.form == "index":
            agree &= (told == wanted).all(axis=1)
        elif answer.form == "probability":
            # Above the bound, or below it, by the class.
            beyond = told.astype(np.float64) - np.array(answer.boundary.probabilities)
            agree &= (np.where((wanted == 1) == answer.boundary.rising, beyond, -beyond) >= 0).all(
                axis=1
            )
        elif held.shape[1] == answer.num_classes:
            agree &= held[rows, classes] >= held.max(axis=1)
    return agree
