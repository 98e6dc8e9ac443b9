"""Which scores a vote is made of: a mean of their softmaxes, whatever it is written with.

½ softmax(a) + ½ softmax(b)        (softmax(a) + softmax(b)) / 2        ReduceMean of a stack

A `LinearClassifier` whose probabilities are a softmax's counts as that of its scores, by their
name.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.score_walk import stacked
from cloakify.graph.model.constants import Constants, constant_number

WHOLE = "LinearClassifier"
_SAME = {"Cast", "Dropout", "Identity"}
_SUMS = {"Add", "Mean", "Sum"}
_SCALES = {"Div", "Mul"}
# Nodes that are looked at.
_MOST_STEPS = 10_000


def votes_of(tensor: gs.Tensor, constants: Constants) -> dict[str, float] | None:
    """Return what is voted on, scores [N, C] by name, and the share that each has in the sum.

    Shares are above 0, and need not add up to one. ``None`` where something else goes into it.
    """
    shares: dict[str, float] = {}
    waiting = [(tensor, 1.0)]
    steps = 0
    while waiting:
        value, share = waiting.pop()
        node = value.inputs[0] if value.inputs else None
        steps += 1
        # A value that is read again and again would be walked as often.
        if node is None or steps > _MOST_STEPS:
            return None
        whole = is_softmax_of_its_own(node) and value is node.outputs[-1]
        if len(node.outputs) != 1 and not whole:
            return None
        if whole or (node.op == "Softmax" and _along_classes(node)):
            name = value.name if node.op == WHOLE else node.inputs[0].name
            shares[name] = shares.get(name, 0.0) + share
            continue
        parts = _parts(node, share, constants)
        if parts is None:
            return None
        waiting += parts
    return shares


def _parts(
    node: gs.Node, share: float, constants: Constants
) -> list[tuple[gs.Tensor, float]] | None:
    """Return what a node adds up, with the share of each."""
    if node.op in _SAME or _sums_to_one(node):
        return [(node.inputs[0], share)]
    rows = stacked(node)
    terms = rows if rows is not None else node.inputs
    if rows is not None or node.op in _SUMS:
        if any(term in constants for term in terms):
            return None
        mean = node.op in ("Mean", "ReduceMean")
        return [(term, share / (len(terms) if mean else 1)) for term in terms]
    if node.op not in _SCALES or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if node.op == "Mul" and first in constants:
        first, second = second, first
    factor = constant_number(second) if second in constants else None
    if factor is None or not factor > 0:
        return None
    return [(first, share * factor if node.op == "Mul" else share / factor)]


def is_softmax_of_its_own(node: gs.Node) -> bool:
    """Tell whether a classifier in one node makes a softmax of its scores.

    Of two classes with opposite scores, z and −z, the sigmoids are that of half of these.
    """
    transform = node.attrs.get("post_transform", "NONE") if node.op == WHOLE else "NONE"
    if transform != "LOGISTIC":
        return bool(transform == "SOFTMAX")
    shifts, rows = (node.attrs.get(name, []) for name in ("intercepts", "coefficients"))
    half = len(rows) // 2
    opposite = [*rows[:half], *shifts[:1]] == [-each for each in (*rows[half:], *shifts[1:])]
    return len(shifts) == 2 and opposite


def _sums_to_one(node: gs.Node) -> bool:
    """Tell whether a node only brings probabilities of one classifier to a sum that they have."""
    source = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
    is_sum = node.op == "Normalizer" and node.attrs.get("norm") == "L1"
    return is_sum and source is not None and is_softmax_of_its_own(source)


def _along_classes(node: gs.Node) -> bool:
    """Tell whether the softmax of a matrix is one of each row."""
    shape = node.inputs[0].shape
    return shape is not None and len(shape) == 2 and node.attrs.get("axis", -1) in (-1, 1)
