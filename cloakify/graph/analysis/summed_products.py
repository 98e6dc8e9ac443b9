"""Linear layers written out as products and sums, and layers of one vector, which give one score.

    ReduceSum(Mul(φ, W))  of φ [N, 1, D] and W [C, D], or of φ [N, D, 1] and W [D, C]
    ReduceSum(Mul(φ, w))  MatMul(φ, w)  Einsum(φ, w)  of φ [N, D] and w [D]

A mean in place of the sum scales all scores alike.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.layer_parts import (
    described,
    is_weight,
    only_reader_of_kind,
    weight_shape,
    with_bias,
)
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.analysis.score_walk import SUMMED, axes_of
from cloakify.graph.model.constants import Constants


def summed_product(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read a product with a constant that is summed over one axis of both."""
    reduction = only_reader_of_kind(node.outputs[0], *SUMMED)
    if reduction is None:
        return None
    slot = 1 if is_weight(node.inputs[0], constants) else 0
    features, stored = node.inputs[slot], weight_shape(node.inputs[1 - slot], constants)
    if stored is None or is_weight(features, constants):
        return None
    sizes = list(features.shape or ())
    rank = len(sizes)
    axes = [axis - rank * (axis >= 0) for axis in axes_of(reduction) or ()]
    if len(stored) > rank or axes not in ([-1], [-2]):
        return None
    own = (*[1] * (rank - len(stored)), *stored)
    (axis,) = axes
    if own[0] != 1 or rank + axis < 1 or sizes[axis] != own[axis]:
        return None
    summed = reduction.outputs[0]
    if rank == 2 and paths.mixes(features):
        # Weighted votes are no features.
        return None
    if rank == 2:
        return one_score(node, constants, paths, slot, own[1], summed)
    across = -3 - axis
    # The classes are along an axis that the features have none of, or are repeated along.
    repeated = sizes[across] == own[across]
    if rank != 3 or not (sizes[across] == 1 or repeated) or own[across] == 1:
        return None
    behind = int(axis == -1 and bool(reduction.attrs.get("keepdims", 1)))
    scores = paths.reworked(with_bias(summed, constants), None, behind, own[across])
    return described(node, paths, slot, axis, own[axis], *scores, behind=behind)


def before_repeats(head: Head, node: gs.Node) -> Head | None:
    """Return a head of :func:`summed_product` with its features as they are for all classes.

    ``None`` where each class has features of its own.
    """
    features = node.inputs[head.features_slot]
    while features.name != head.features:
        features = features.inputs[0].inputs[0]
    maker = features.inputs[0] if features.inputs else None
    across = -3 - head.features_axis
    sizes = list(features.shape or ())
    if len(sizes) < 3 or sizes[across] == 1:
        return head
    whole = maker.inputs[0] if maker is not None and maker.op == "Expand" else None
    if whole is None or whole.shape is None or len(whole.shape) != 3 or whole.shape[across] != 1:
        return None
    return replace(head, features=whole.name, read_by=(features.name,))


def vector_product(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read the product of features [N, D] and a vector [D]."""
    features, vector = node.inputs[:2]
    size = constants.shape(vector)
    rank = 0 if features.shape is None else len(features.shape)
    if size is None or len(size) != 1 or rank != 2 or features in constants:
        return None
    return one_score(node, constants, paths, 0, size[0], node.outputs[0])


def one_score(
    node: gs.Node,
    constants: Constants,
    paths: ScorePaths,
    slot: int,
    features: int,
    output: gs.Tensor,
) -> Head:
    """Describe a node that makes one number of each sample's features."""
    scores = paths.reworked(with_bias(output, constants), None, 0, 1)
    return described(node, paths, slot, -1, features, *scores)
