"""What descriptions of linear layers share."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.model.constants import Constants


def matrix(tensor: gs.Tensor, constants: Constants) -> tuple[int, int] | None:
    """Return how many rows and columns a constant matrix has; ``None`` of anything else."""
    shape = constants.shape(tensor)
    return None if shape is None or len(shape) != 2 else (shape[0], shape[1])


def with_bias(output: gs.Tensor, constants: Constants) -> gs.Tensor:
    """Return what a product becomes by a constant that is added to it, or itself.

    The product may be quantised in between, and made floats again.
    """
    rounded = only_reader_of_kind(output, "QuantizeLinear")
    back = None if rounded is None else only_reader_of_kind(rounded.outputs[0], "DequantizeLinear")
    product = output if back is None else back.outputs[0]
    bias = only_reader_of_kind(product, "Add")
    if bias is None or not all(each is product or each in constants for each in bias.inputs):
        return output
    before, after = product.shape, bias.outputs[0].shape
    if before and after and before[-1] == 1 and after[-1] not in (1, None):
        # Several bounds on one score (ordinal answers) are no bias of it.
        return output
    return bias.outputs[0]


def only_reader_of_kind(tensor: gs.Tensor, *ops: str) -> gs.Node | None:
    """Return the only node that reads a tensor, if it is of one of these kinds."""
    (node,) = tensor.outputs if len(tensor.outputs) == 1 else (None,)
    return node if node is not None and node.op in ops else None


def described(
    node: gs.Node,
    paths: ScorePaths,
    slot: int,
    axis: int,
    features: int,
    output: gs.Tensor,
    classes: int,
    *,
    behind: int = 0,
    is_map: bool = False,
) -> Head:
    """Describe a node as a head.

    Parameters
    ----------
    node, slot, axis, features
        The node that reads the features, by which of its inputs, their axis and their number.
    output, classes
        What the layer puts out, with its bias, and how many scores that holds.
    behind, is_map
        As for :func:`~cloakify.graph.analysis.score_walk.follow`.
    """
    return Head(
        node=node.name or node.outputs[0].name,
        op_type=node.op,
        features=node.inputs[slot].name,
        features_slot=slot,
        features_axis=axis,
        num_features=int(features),
        weight=node.inputs[1 - slot].name if len(node.inputs) > 1 else "",
        linear=output.name,
        logits=paths.scores_of(output, behind, is_map=is_map).name,
        num_classes=int(classes),
        positions=behind if axis == 1 else 0,
    )
