"""What descriptions of linear layers share."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.model.constants import Constants, Shape

# What repeats a constant, for each sample of a batch as a rule, and what may be done to it then.
_REPEATS = {"Expand", "Tile"}
_BROADCAST = {
    *("Abs", "Add", "Cast", "Clip", "Div", "Identity", "Max", "Mul", "Pow", "Reciprocal"),
    *("ReduceL2", "Sqrt", "Sub"),
}
# Nodes between a repeated weight and who reads it: to bring it to one length takes five.
_DEEPEST = 8


def matrix(tensor: gs.Tensor, constants: Constants) -> tuple[int, int] | None:
    """Return how many rows and columns a constant matrix has; ``None`` of anything else.

    It may have axes of size 1 in front, or be repeated along them.
    """
    shape = weight_shape(tensor, constants)
    if shape is None or len(shape) < 2 or any(size != 1 for size in shape[:-2]):
        return None
    return shape[-2], shape[-1]


def weight_shape(tensor: gs.Tensor, constants: Constants) -> Shape | None:
    """Return the shape of a constant; of one that each sample has a copy of, with 1 in front."""
    if tensor in constants:
        return constants.shape(tensor)
    after = tensor.shape
    if not after or not _is_repeated(tensor, constants, _DEEPEST):
        return None
    own = tuple(size for size in after[1:] if isinstance(size, int))
    return (1, *own) if len(own) == len(after) - 1 else None


def _is_repeated(tensor: gs.Tensor, constants: Constants, depth: int) -> bool:
    """Tell whether a tensor holds a constant again and again, along its first axis."""
    (node,) = tensor.inputs if len(tensor.inputs) == 1 else (None,)
    if node is None or not depth or not tensor.shape:
        return False
    if node.op in _REPEATS:
        before = constants.shape(node.inputs[0]) if node.inputs[0] in constants else None
        return before is not None and (len(before) < len(tensor.shape) or before[0] == 1)
    return node.op in _BROADCAST and all(
        each.is_empty() or each in constants or _is_repeated(each, constants, depth - 1)
        for each in node.inputs
    )


def is_weight(tensor: gs.Tensor, constants: Constants) -> bool:
    """Tell whether a tensor is a constant, repeated for each sample or not."""
    return tensor in constants or weight_shape(tensor, constants) is not None


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
    after, made = behind, node.outputs[0].shape
    if output.shape is not None and made is not None and len(output.shape) == 2 < len(made):
        # Of one position, and no longer beside others.
        after, is_map = 0, False
    return Head(
        node=node.name or node.outputs[0].name,
        op_type=node.op,
        features=node.inputs[slot].name,
        features_slot=slot,
        features_axis=axis,
        num_features=int(features),
        weight=node.inputs[1 - slot].name if len(node.inputs) > 1 else "",
        linear=output.name,
        logits=paths.scores_of(output, after, is_map=is_map).name,
        num_classes=int(classes),
        positions=behind if axis == 1 else 0,
    )
