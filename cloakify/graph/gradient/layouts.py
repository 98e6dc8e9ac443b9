"""Where the numbers of a tensor are that each depend on one number of another.

A quantiser may spread a number out before it is a number again: over a row of thresholds
(thermometer codes), a row of distances to what it may become, a one-hot code, a row of a table that
it looks up. A layout says of each axis of such a tensor which axis of the source it follows;
``None`` is an axis along which all depends on the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of, static_shape

Layout: TypeAlias = tuple[int | None, ...]

# What puts out for each element a function of that element, of those beside it in other inputs, and
# of constants.
BY_ELEMENT = {
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift"),
    *("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "Celu"),
    *("Clip", "Cos", "Cosh", "DequantizeLinear", "Div", "Elu", "Equal", "Erf", "Exp", "Floor"),
    *("Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf"),
    *("IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod"),
    *("Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round"),
    *("Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub"),
    *("Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"),
}
_REDUCTIONS = {
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
}


def own_layout(source: Tensor) -> Layout | None:
    """Return the layout of a tensor by itself; ``None`` where its sizes are not known.

    Along an axis of size 1 there is one number alone; the first axis counts samples.
    """
    shape = static_shape(source)
    if shape is None:
        return None
    return tuple(axis if axis == 0 or size != 1 else None for axis, size in enumerate(shape))


def layout_behind(
    node: gs.Node, known: Callable[[Tensor], Layout | None], source: Tensor
) -> Layout | None:
    """Return the layout of what a node puts out; ``None`` where it mixes numbers of the source.

    Parameters
    ----------
    node
        It reads at least one tensor with a layout; what has none is constant.
    known
        Returns the layout of a tensor.
    source
        What layouts are of.
    """
    if node.domain or len(node.outputs) != 1:
        return None
    shape = static_shape(node.outputs[0])
    if shape is None:
        return None
    layouts = [known(tensor) for tensor in node.inputs]
    by_element = node.op in BY_ELEMENT
    layout = _joined(node, layouts, len(shape)) if by_element else _moved(node, layouts)
    if layout is None or len(layout) != len(shape):
        return None
    mapped = [axis for axis in layout if axis is not None]
    wanted = [axis for axis in own_layout(source) or () if axis is not None]
    sizes = shape_of(source)
    fits = all(
        size == sizes[axis] for size, axis in zip(shape, layout, strict=True) if axis is not None
    )
    return layout if sorted(mapped) == wanted and fits else None


def _joined(node: gs.Node, layouts: Sequence[Layout | None], rank: int) -> Layout | None:
    """Return the layout of tensors that are broadcast to each other."""
    axes: list[int | None] = [None] * rank
    spread: set[int] = set()
    for tensor, layout in zip(node.inputs, layouts, strict=True):
        if layout is None:
            continue
        for place, (axis, size) in enumerate(
            zip(layout, shape_of(tensor), strict=True), rank - len(layout)
        ):
            if axis is None:
                spread |= {place} if size != 1 else set()
            elif axes[place] not in (None, axis):
                return None
            else:
                axes[place] = axis
    # A row that lies along what another input follows: each with each.
    return None if any(axes[place] is not None for place in spread) else tuple(axes)


def _moved(node: gs.Node, layouts: Sequence[Layout | None]) -> Layout | None:
    """Return the layout of what works along axes of one tensor, or moves them."""
    layout, *others = layouts
    if node.op in ("Gather", "OneHot"):
        return _looked_up(node, layouts)
    if layout is None or any(other is not None for other in others):
        return None
    rank = len(layout)
    if node.op in _REDUCTIONS or node.op in ("ArgMax", "ArgMin", "Squeeze"):
        axes = _axes(node, rank, 0 if node.op.startswith("Arg") else None)
        if axes is None or any(layout[axis] is not None for axis in axes):
            return None
        if node.op != "Squeeze" and node.attrs.get("keepdims", 1):
            return layout
        return tuple(own for axis, own in enumerate(layout) if axis not in axes)
    if node.op in ("Hardmax", "LogSoftmax", "Softmax"):
        return layout if layout[node.attrs.get("axis", -1)] is None else None
    if node.op == "MatMul":
        rows = len(node.inputs[1].shape or ())
        if rank < 2 or layout[-1] is not None or rows not in (1, 2):
            return None
        return layout if rows == 2 else layout[:-1]
    if node.op == "Transpose":
        return tuple(layout[axis] for axis in node.attrs.get("perm", range(rank)[::-1]))
    if node.op == "Unsqueeze":
        rank = len(node.outputs[0].shape or ())
        added, rest = _axes(node, rank, None), iter(layout)
        return (
            None
            if added is None
            else tuple(None if axis in added else next(rest) for axis in range(rank))
        )
    return None


def _looked_up(node: gs.Node, layouts: Sequence[Layout | None]) -> Layout | None:
    """Return the layout of rows of a constant table that whole numbers choose."""
    place = 1 if node.op == "Gather" else 0
    layout = layouts[place]
    if layout is None or any(own is not None for own in (*layouts[:place], *layouts[place + 1 :])):
        return None
    if node.op == "OneHot":
        axis = node.attrs.get("axis", -1) % (len(layout) + 1)
        return (*layout[:axis], None, *layout[axis:])
    rows = len(node.inputs[0].shape or ())
    return None if node.attrs.get("axis", 0) else (*layout, *[None] * (rows - 1))


def _axes(node: gs.Node, rank: int, default: int | None) -> set[int] | None:
    """Return the axes that a node works along; ``None`` where the file does not say."""
    listed: list[int] | None
    if len(node.inputs) > 1 and node.inputs[1].name:
        given = node.inputs[1]
        listed = given.values.reshape(-1).tolist() if isinstance(given, gs.Constant) else None
    elif "axes" in node.attrs:
        listed = node.attrs["axes"]
    else:
        axis = node.attrs.get("axis", default)
        listed = None if axis is None else [axis]
    return None if listed is None else {int(axis) % rank for axis in listed}


def laid_out(builder: Builder, tensor: Tensor, shape: Sequence[int], layout: Layout) -> Tensor:
    """Return a tensor that broadcasts to a source as one that broadcasts to what has a layout.

    Parameters
    ----------
    shape
        Of the tensor: of the source's rank.
    """
    order = [axis for axis in layout if axis is not None]
    if order == list(range(len(shape))) == list(layout):
        return tensor
    rest = [axis for axis in range(len(shape)) if axis not in order]
    turned = builder.transpose(tensor, [*order, *rest])
    return builder.reshape(turned, [1 if axis is None else shape[axis] for axis in layout])


def summed_up(builder: Builder, tensor: Tensor, source: Tensor, layout: Layout) -> Tensor:
    """Return, for each number of a source, the sum of what a tensor with a layout holds of it."""
    shape = shape_of(source)
    if list(layout) == list(range(len(shape))):
        return tensor
    free = [axis for axis, own in enumerate(layout) if own is None]
    order = [axis for axis in layout if axis is not None]
    sums = builder.sum(tensor, free, keepdims=False)
    turned = builder.transpose(sums, [order.index(axis) for axis in sorted(order)])
    return builder.reshape(turned, shape)
