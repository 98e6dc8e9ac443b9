"""Follow a linear layer's output over what only moves, pools or picks it: one step a node.

A layer may be applied at many positions (tokens, pixels), of which one is picked or which are
pooled, before or after they are moved about. What is followed is the tensor and where in it the
classes are; what does something to the classes ends the walk.
"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from cloakify.graph.model.constants import constant_integers
from cloakify.graph.model.dataflow import SIZES

Sizes = list[int | str | None]

# What leaves values what and where they are.
SAME = {"Identity", "Dropout"}
# What gives values another shape.
MOVES = {"Flatten", "Reshape", "Squeeze", *SAME}
_RESHAPES = {"Flatten", "Reshape", "Squeeze", "GatherND"}
_POOLS = {"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"}
_REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceLogSumExp"}
# Of scores it is the same: a mean scales all of them alike.
SUMMED = ("ReduceMean", "ReduceSum")
# What may be done to a map of scores before it is pooled (SqueezeNet).
_ON_MAPS = {"Relu"}


def follow(linear: gs.Tensor, behind: int, *, is_map: bool) -> gs.Tensor:
    """Return the class scores that a layer's output becomes.

    The walk ends before Softmax, and where a value is read twice (a decomposed Softmax does that),
    and before what puts the classes first: scores are those of samples then.

    Parameters
    ----------
    linear
        What the layer puts out, bias included.
    behind
        How many axes there are behind that of the classes, if it is no map.
    is_map
        Whether it is a `Conv`'s, with the classes along its second axis and positions behind.
    """
    tensor = linear
    axis = None if linear.shape is None else len(linear.shape) - 1 - behind
    axis = 1 if is_map else axis
    while True:
        node = only_reader(tensor)
        if node is None or not node.inputs or node.inputs[0] is not tensor:
            return tensor
        if axis is not None and _loses_samples(node, axis):
            return tensor
        if node.op in SAME or (is_map and node.op in _ON_MAPS):
            place = axis
        elif _is_rounded(node):
            # To quantised numbers and back (QDQ): two nodes that do one thing.
            node, place = node.outputs[0].outputs[0], axis
        elif axis is None or tensor.shape is None or node.outputs[0].shape is None:
            if not _may_follow(node, is_map):
                return tensor
            place = None
        else:
            place = _moved(node, axis)
            if puts_classes_first(node, axis):
                return tensor
            # Behind another shape the classes may be anywhere.
            if place is None and node.op not in _RESHAPES:
                return tensor
        tensor, axis = node.outputs[0], place


def lost_at(linear: gs.Tensor, axis: int, end: str) -> gs.Node | None:
    """Return the node that takes all scores of a position together, and leaves the positions.

    Parameters
    ----------
    linear, axis
        What a layer puts out, and which axis its classes are along.
    end
        Name of what is made of it in the end; ``None`` also where the way is not plain to see.
    """
    tensor: gs.Tensor = linear
    while tensor.name != end:
        node = only_reader(tensor)
        if node is None or tensor.shape is None or node.outputs[0].shape is None:
            return None
        axes = _inside(axes_of(node), len(tensor.shape)) if node.op in _REDUCTIONS else None
        if axes == [axis]:
            return node
        if list(tensor.shape) != list(node.outputs[0].shape) or node.op == "Transpose":
            place = _moved(node, axis)
            if place is None:
                return None
            axis = place
        tensor = node.outputs[0]
    return None


def puts_classes_first(node: gs.Node, axis: int) -> bool:
    """Tell whether a node turns the classes along an axis into the first one, of [C, N]."""
    shape = node.inputs[0].shape
    if node.op != "Transpose" or shape is None or len(shape) != 2 or axis != 1:
        return False
    return list(node.attrs.get("perm", (1, 0))) == [1, 0]


def stacked(node: gs.Node) -> list[gs.Tensor] | None:
    """Return what a node takes the sum or mean of, which was stacked along an axis of its own."""
    if node.op not in SUMMED or node.attrs.get("keepdims", 1) or not node.inputs[0].inputs:
        return None
    stack = node.inputs[0].inputs[0]
    rows = [row.inputs[0] for row in stack.inputs if row.inputs]
    axes = [stack.attrs.get("axis")]
    if stack.op != "Concat" or len(rows) < len(stack.inputs) or axes_of(node) != axes:
        return None
    alike = all(_adds_axis(row, axes) for row in rows)
    return [row.inputs[0] for row in rows] if alike else None


def _adds_axis(row: gs.Node, axes: list[object]) -> bool:
    """Tell whether a node gives a value a new axis, the only one that is named."""
    if row.op == "Unsqueeze":
        return axes_of(row) == axes
    # As skl2onnx writes it of probabilities [N, C].
    wanted = setting(row, "shape", 1)
    if row.op != "Reshape" or axes != [0] or wanted is None or wanted[:2] != [1, -1]:
        return False
    before = row.inputs[0]
    made_by = before.inputs[0].op if before.inputs else ""
    known = before.shape is not None and len(before.shape) == 2 and before.shape[1] == wanted[-1]
    return len(wanted) == 3 and (known or made_by in ("LinearClassifier", "Normalizer"))


def _loses_samples(node: gs.Node, axis: int) -> bool:
    """Tell whether a change of shape leaves one axis, of samples and classes in one."""
    before, after = node.inputs[0].shape, node.outputs[0].shape
    if node.op not in _RESHAPES or before is None or after is None or len(after) != 1:
        return False
    count = before[axis]
    return isinstance(count, int) and count > 1


def _is_rounded(node: gs.Node) -> bool:
    """Tell whether a node quantises what the next one makes floats again."""
    reader = only_reader(node.outputs[0]) if node.op == "QuantizeLinear" else None
    return reader is not None and reader.op == "DequantizeLinear"


def _may_follow(node: gs.Node, is_map: bool) -> bool:
    """Tell whether a node is a step where shapes are not known: most likely ones are taken."""
    if node.op in _RESHAPES:
        return True
    if is_map:
        return node.op in _POOLS | _REDUCTIONS
    return node.op == "Gather" and node.attrs.get("axis", 0) == 0


def _moved(node: gs.Node, axis: int) -> int | None:
    """Return where a node leaves the classes; ``None`` where it is no step."""
    before, after = list(node.inputs[0].shape or ()), list(node.outputs[0].shape or ())
    if node.op in _RESHAPES:
        return _kept(before, after, axis)
    if node.op == "Transpose":
        perm = list(node.attrs.get("perm", range(len(before))[::-1]))
        return perm.index(axis) if axis in perm else None
    if node.op in _POOLS:
        return axis if axis == 1 and len(before) > 2 else None
    if node.op == "Slice" or node.op in _REDUCTIONS:
        axes = _inside(axes_of(node), len(before))
        if axes is None or not axes or axis in axes:
            return None
        gone = node.op != "Slice" and not node.attrs.get("keepdims", 1)
        return axis - gone * sum(each < axis for each in axes)
    if node.op != "Gather":
        return None
    along = node.attrs.get("axis", 0)
    along += len(before) * (along < 0)
    if along == axis:
        return None
    # The shape of the indices takes the place of the axis.
    added = len(after) - len(before)
    return axis + added if along < axis else axis


def _kept(before: Sizes, after: Sizes, axis: int) -> int | None:
    """Return where a change of shape alone leaves the classes, if that is plain to see."""
    count = before[axis]
    places = [place for place, size in enumerate(after) if size == count]
    if axis == 0 or not places:
        return None
    if after[: axis + 1] == before[: axis + 1]:
        # Only what lies behind the classes was changed.
        return axis
    if axis == len(before) - 1 and after[-1] == count:
        # And here only what lies before them: rows of tokens may be made of samples of tokens.
        return len(after) - 1
    # One position: nothing but sizes of 1 came or went.
    others = [size for place, size in enumerate(before) if place not in (0, axis)]
    numbers = [size for size in after if isinstance(size, int)]
    single = all(size == 1 for size in others) and math.prod(numbers) == count
    return places[-1] if single and len(numbers) >= len(after) - 1 else None


def _inside(axes: list[int] | None, rank: int) -> list[int] | None:
    """Return axes counted from the front; ``None`` where one is the batch's or none is known."""
    if axes is None:
        return None
    counted = [axis + rank * (axis < 0) for axis in axes]
    return counted if all(0 < axis < rank for axis in counted) else None


def only_reader(tensor: gs.Tensor) -> gs.Node | None:
    """Return the node that alone reads a tensor, but for its size, and has one output."""
    readers = [node for node in tensor.outputs if node.op not in SIZES]
    return readers[0] if len(readers) == 1 and len(readers[0].outputs) == 1 else None


def axes_of(node: gs.Node) -> list[int] | None:
    """Return a node's axes; ``None`` where they aren't known."""
    return setting(node, "axes", 3 if node.op == "Slice" else 1)


def setting(node: gs.Node, name: str, slot: int) -> list[int] | None:
    """Return integers that are an attribute or an input by opset; ``None`` where not known."""
    values = node.attrs.get(name)
    if values is None and len(node.inputs) > slot:
        values = constant_integers(node.inputs[slot])
    return None if values is None else [int(value) for value in values]


def is_last_of(node: gs.Node, axis: object) -> bool:
    """Tell whether an axis is the one of the classes, the last of [N, C]."""
    shape = node.inputs[0].shape
    rank = 2 if shape is None else len(shape)
    return axis in (-1, rank - 1) and rank > 1


def picked_of(node: gs.Node, count: int) -> list[int] | None:
    """Return which columns a node takes, in its order; ``None`` where that is not known."""
    if node.op in ("ArrayFeatureExtractor", "Gather"):
        if node.op == "Gather" and not is_last_of(node, node.attrs.get("axis", 0)):
            return None
        places = constant_integers(node.inputs[1])
    else:
        axes = axes_of(node)
        bounds = [setting(node, name, slot) for slot, name in ((1, "starts"), (2, "ends"))]
        bounds.append(setting(node, "steps", 4) if len(node.inputs) > 4 else [1])
        if axes is None or len(axes) != 1 or not is_last_of(node, axes[0]):
            return None
        if any(bound is None or len(bound) != 1 for bound in bounds):
            return None
        places = [*range(*slice(*(bound[0] for bound in bounds if bound)).indices(count))]
    if places is None or not places or not all(-count <= place < count for place in places):
        return None
    return [place % count for place in places]
