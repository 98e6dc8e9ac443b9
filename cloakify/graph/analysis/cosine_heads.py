"""Heads whose features are brought to one length: scores are cosines, times a scale.

    φ → LpNormalization → MatMul(·, W)
    φ → Div(φ, ‖φ‖) → MatMul(·, W)       ‖φ‖ = ReduceL2(φ), or Sqrt(ReduceSum(φ²)), … with its floor
    φ → Mul(φ, 1/‖φ‖) → MatMul(·, W)
    φ → Mul(φ, W) → ReduceSum → Div(·, ‖φ‖ ‖W‖)       and the first three with such a product

A mask before the length is taken leaves cosines cosines, of what is left of the features. By how
much a sample's scores are scaled does not change which is the largest, so with a layer that adds
nothing to them the answer is that of the linear layer on masked features.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.layer_parts import only_reader_of_kind
from cloakify.graph.analysis.score_walk import SUMMED, axes_of
from cloakify.graph.model.constants import Constants, constant_number

# What scores are only scaled by, or moved.
_SCALES = ("Div", "Identity", "Mul", "Neg")
_REDUCTIONS = {"ReduceL2", "ReduceSum", "ReduceSumSquare"}
_POWERS = {"Mul", "Pow"}
# The steps from features to the length that they are divided by.
_STEPS = (
    _REDUCTIONS
    | _POWERS
    | {
        *("Add", "Clip", "Div", "Expand", "Identity", "Max", "Reciprocal", "Shape", "Sqrt"),
    }
)
_LAYERS = {"FusedMatMul", "Gemm", "MatMul", "Mul"}


def before_length(head: Head, node: gs.Node, constants: Constants) -> Head:
    """Return a head with the features as they are before their length is taken, if it is."""
    if node.op not in _LAYERS or head.features_axis != -1:
        return head
    linear = _linear(node, head)
    if linear is None:
        return head
    before = _length(node.inputs[head.features_slot], constants)
    if before is None:
        divided = _divided(linear, node.inputs[head.features_slot], constants)
        if node.op != "Mul" or divided is None:
            return head
        linear, reading = divided
        before = node.inputs[head.features_slot], (node.outputs[0].name, *reading)
    features, readers = before
    if features in constants:
        return head
    scores = _scaled(linear)
    logits = scores.name if head.logits == head.linear else head.logits
    return replace(
        head,
        features=features.name,
        read_by=readers,
        cosine=True,
        linear=scores.name,
        logits=logits,
    )


def _scaled(scores: gs.Tensor) -> gs.Tensor:
    """Follow cosines over the factor that makes logits of them: a softmax of cosines is flat."""
    while True:
        node = only_reader_of_kind(scores, "Div", "Mul")
        if node is None or (node.op == "Div" and node.inputs[0] is not scores):
            return scores
        other = node.inputs[1] if node.inputs[0] is scores else node.inputs[0]
        factor = constant_number(other)
        if factor is None or factor <= 0:
            return scores
        scores = node.outputs[0]


def _linear(node: gs.Node, head: Head) -> gs.Tensor | None:
    """Return a head's scores where a product is only scaled to them, else ``None``."""
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        return None
    tensor = node.outputs[0]
    steps = (*_SCALES, *SUMMED) if node.op == "Mul" else _SCALES
    while tensor.name != head.linear:
        scale = only_reader_of_kind(tensor, *steps)
        if scale is None:
            return None
        tensor = scale.outputs[0]
    return tensor


def _length(unit: gs.Tensor, constants: Constants) -> tuple[gs.Tensor, tuple[str, ...]] | None:
    """Return what a tensor of length one is made of, and the nodes that read that on the way."""
    node = unit.inputs[0] if unit.inputs else None
    if node is None or not node.inputs or len(unit.outputs) != 1:
        return None
    features = node.inputs[0]
    if node.op == "LpNormalization":
        rank = None if features.shape is None else len(features.shape)
        last = node.attrs.get("axis", -1) in (-1, None if rank is None else rank - 1)
        return (features, (unit.name,)) if last and node.attrs.get("p", 2) == 2 else None
    if node.op not in ("Div", "Mul") or len(node.inputs) != 2:
        return None
    pairs = [tuple(node.inputs)]
    if node.op == "Mul":
        pairs.append(tuple(node.inputs[::-1]))
    for features, length in pairs:
        steps = _steps(length, features, constants)
        if steps is not None and _is_length(steps, features):
            reading = [step for step in steps if any(each is features for each in step.inputs)]
            return features, tuple(step.outputs[0].name for step in [*reading, node])
    return None


def _divided(
    scores: gs.Tensor, features: gs.Tensor, constants: Constants
) -> tuple[gs.Tensor, tuple[str, ...]] | None:
    """Return scores over the length of features, and the nodes that read these for it."""
    node = only_reader_of_kind(scores, "Div")
    if node is None or node.inputs[0] is not scores:
        return None
    steps = _steps(node.inputs[1], features, constants)
    if steps is None or not _is_length(steps, features, kept=False):
        return None
    reading = [step for step in steps if any(each is features for each in step.inputs)]
    return node.outputs[0], tuple(step.outputs[0].name for step in reading)


def _steps(length: gs.Tensor, features: gs.Tensor, constants: Constants) -> list[gs.Node] | None:
    """Return the nodes between features and a length, or ``None`` where others are among them."""
    steps: dict[int, gs.Node] = {}
    waiting = [length]
    while waiting:
        tensor = waiting.pop()
        if tensor is features or tensor in constants or tensor.is_empty():
            continue
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None or node.op not in _STEPS or len(steps) > len(_STEPS):
            return None
        if id(node) not in steps:
            steps[id(node)] = node
            # Of a length that is spread over the features, their sizes are no part.
            waiting.extend(node.inputs[:1] if node.op == "Expand" else node.inputs)
    return list(steps.values())


def _is_length(steps: list[gs.Node], features: gs.Tensor, *, kept: bool = True) -> bool:
    """Tell whether steps take the length of features, along their last axis.

    ``kept`` says whether that axis stays, with a size of 1.
    """
    taken = [step for step in steps if step.op in _REDUCTIONS]
    if len(taken) != 1 or bool(taken[0].attrs.get("keepdims", 1)) != kept:
        return False
    (reduction,) = taken
    rank = None if features.shape is None else len(features.shape)
    axes = axes_of(reduction)
    if axes not in ([-1], [None if rank is None else rank - 1]):
        return False
    if reduction.op == "ReduceL2":
        return reduction.inputs[0] is features
    square = reduction.inputs[0].inputs[0] if reduction.inputs[0].inputs else None
    if reduction.op == "ReduceSumSquare":
        squared = reduction.inputs[0] is features
    else:
        squared = square is not None and square.op in _POWERS and square.inputs[0] is features
    return squared and any(step.op == "Sqrt" for step in steps)
