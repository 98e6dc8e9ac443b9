"""Tell where what stands behind a layer's scores changes which of them is the largest.

    p = softmax(z)        w = p ∘ π / Σ(p ∘ π)        adjusted to another prior: by w, not by z
    y = mask ? z : −10⁹   some classes are never chosen
    y = p[:, 1:]          the class of what is none of them is left out
    σ(z₁ − z₀)            one score, not two
    ½ softmax(z) + ½ k    a vote with what has no layer; z + f(x): a part of each score

A model is judged by what it answers, so that the scores are those behind then.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.score_walk import MOVES
from cloakify.graph.model.constants import Constants, constant_numbers
from cloakify.graph.model.dataflow import between
from cloakify.graph.model.names import called

# What takes every number by itself, and a constant for each.
_BY_CLASS = {"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Where"}
# What joins values, so that one which the scores have no part in counts as much as they do.
_JOINTS = _BY_CLASS | {"Gemm", "MatMul", "Mean", "Sum"}
_NORMALISATIONS = {"InstanceNormalization": (1, 2), "LayerNormalization": (1, 2)}
_CHOICES = {"LogSoftmax", "Softmax"}


def reordered_by(
    graph: gs.Graph,
    scores: gs.Tensor,
    count: int,
    answer: gs.Tensor,
    answered: int,
    constants: Constants,
) -> str:
    """Name what may make another of the scores the largest; empty where nothing is known to.

    Parameters
    ----------
    scores, count
        A layer's scores, and how many there are for a sample.
    answer, answered
        What the answers are made of, and how many numbers that has.
    """
    if answer.name == scores.name:
        return ""
    nodes = between(graph.nodes, scores.name, answer.name)
    made = {scores.name, *(tensor.name for node in nodes for tensor in node.outputs)}
    for node in nodes:
        if node.op in _JOINTS:
            others = [each for each in node.inputs if each.name and each.name not in made]
            if any(_is_of_classes(each, count, constants) for each in others):
                return called(node)
    if count < 2:
        return ""
    for node in nodes:
        if node.op in _BY_CLASS or node.op in _NORMALISATIONS:
            places = _NORMALISATIONS.get(node.op, range(len(node.inputs)))
            given = [node.inputs[place] for place in places if place < len(node.inputs)]
            if any(_differs(tensor, count, constants) for tensor in given):
                return called(node)
    if answered not in (count, 1) or (answered == 1 and _is_difference(nodes)):
        return next((called(node) for node in nodes if node.op not in MOVES | _CHOICES), "")
    return ""


def _differs(tensor: gs.Tensor, count: int, constants: Constants) -> bool:
    """Tell whether a constant holds a number for each class, and not the same for all."""
    if tensor not in constants:
        return False
    numbers = constant_numbers(tensor)
    return numbers is not None and len(numbers) == count and len({*numbers}) > 1


def _is_of_classes(tensor: gs.Tensor, count: int, constants: Constants) -> bool:
    """Tell whether a value is computed, and may hold a number for each class."""
    if tensor in constants:
        return False
    # What is not known to be one for all classes may be one for each.
    last = tensor.shape[-1] if tensor.shape else 1
    return tensor.shape is None or count == 1 or last == count or not isinstance(last, int)


def _is_difference(nodes: Sequence[gs.Node]) -> bool:
    """Tell whether two scores are taken from each other before anything makes shares of them."""
    if any(node.op in _CHOICES for node in nodes):
        return False
    made = {tensor.name for node in nodes for tensor in node.outputs}
    return any(node.op == "Sub" and {each.name for each in node.inputs} <= made for node in nodes)
