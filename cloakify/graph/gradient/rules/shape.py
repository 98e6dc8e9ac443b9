"""Operators that reshape, permute or join whole tensors."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, Situation, rule
from cloakify.graph.gradient.rules.static import constant_values, integers, resize_with_zeros, zeros
from cloakify.graph.gradient.support import known
from cloakify.graph.model.constants import given
from cloakify.graph.model.imported import is_float
from cloakify.graph.model.shapes import shape_of

_INTEGER_PRODUCTS = ("ConvInteger", "MatMulInteger")


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """The same elements in another shape: ``∂x = g`` in x's shape."""
    (g,) = grads
    assert g is not None
    return [context.reshape(g, shape_of(node.inputs[0]))]


@rule("Identity")
def identity(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x``: ``∂x = g``."""
    return [grads[0]]


def _drops_nothing(node: gs.Node, at: Situation) -> str | None:
    training = node.inputs[2] if given(node, 2) else None
    if training is None:
        return None
    values = constant_values(training)
    if at.is_fixed(training) and (values is None or not values.any()):
        return None
    return (
        "is in training mode: its answers are random, and have no gradient; export the model for "
        "inference"
    )


@rule("Dropout", supports=_drops_nothing)
def dropout(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` in inference, which drops nothing: ``∂x = g``. In training there is no one y."""
    return [grads[0]]


def _passes_cast(node: gs.Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    if any(producer.op in _INTEGER_PRODUCTS for producer in x.inputs):
        return True
    return is_float(x) and is_float(y)


@rule("Cast", passes=lambda node, through: through or _passes_cast(node))
def cast(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Between floating types ``∂x = g`` in x's type; nothing flows through integers.

    The exceptions are integers that a quantised product has added up: their gradient is a float.
    """
    (g,) = grads
    assert g is not None
    x = node.inputs[0]
    if any(producer.op in _INTEGER_PRODUCTS for producer in x.inputs):
        return [g]
    return [context.cast(g, x.dtype) if _passes_cast(node) else None]


@rule("Transpose")
def transpose(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` with permuted axes: ``∂x = g`` with the inverse permutation."""
    (g,) = grads
    assert g is not None
    rank = len(shape_of(node.inputs[0]))
    perm = node.attrs.get("perm", list(range(rank))[::-1])
    return [context.transpose(g, np.argsort(perm).tolist())]


@rule("Concat")
def concat(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Inputs side by side: each gets its part of g."""
    (g,) = grads
    assert g is not None
    axis = node.attrs["axis"]
    start = 0
    gradients: Gradients = []
    for tensor in node.inputs:
        end = start + shape_of(tensor)[axis]
        gradients.append(
            context.op("Slice", g, context.ints(start), context.ints(end), context.ints(axis))
            if context.needs(tensor)
            else None
        )
        start = end
    return gradients


@rule("Split")
def split(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Parts side by side: ``∂x`` joins their gradients, zeros where a part has none."""
    (kind,) = {gradient.dtype for gradient in grads if gradient is not None}
    parts = []
    for gradient, tensor in zip(grads, node.outputs, strict=True):
        if gradient is None:
            like = gs.Variable("like", dtype=kind)
            gradient = zeros(context, shape_of(tensor), like)
        parts.append(gradient)
    return [context.op("Concat", *parts, axis=node.attrs.get("axis", 0))]


@rule("Expand")
def expand(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Broadcasting: ``∂x`` sums g over the copies."""
    (g,) = grads
    assert g is not None
    return [context.sum_to(g, shape_of(node.outputs[0]), shape_of(node.inputs[0]))]


@rule("Tile", supports=known({1: "repeats"}))
def tile(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``repeats`` copies along each axis: ``∂x`` sums g over the copies."""
    (g,) = grads
    assert g is not None
    shape = shape_of(node.inputs[0])
    repeats = integers(node, 1)
    apart = [size for pair in zip(repeats, shape, strict=True) for size in pair]
    copied = [2 * axis for axis, count in enumerate(repeats) if count != 1]
    return [context.reshape(context.sum(context.reshape(g, apart), copied), shape)]


@rule("DepthToSpace")
def depth_to_space(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Channels become blocks of positions: ``∂x`` is the inverse permutation of g.

    y[n, c, h·b + i, w·b + j] is x[n, (i·b + j)·C + c, h, w] in mode DCR and
    x[n, (c·b + i)·b + j, h, w] in mode CRD.
    """
    (g,) = grads
    assert g is not None
    block = node.attrs["blocksize"]
    n, channels, height, width = shape_of(node.inputs[0])
    apart = context.reshape(g, [n, channels // block**2, height, block, width, block])
    mode = node.attrs.get("mode", "DCR")
    order = [0, 3, 5, 1, 2, 4] if mode == "DCR" else [0, 1, 3, 5, 2, 4]
    return [context.reshape(context.transpose(apart, order), shape_of(node.inputs[0]))]


@rule("SpaceToDepth")
def space_to_depth(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Blocks of positions become channels: ``∂x = DepthToSpace(g)`` in the same mode."""
    (g,) = grads
    assert g is not None
    mode = node.attrs.get("mode", "DCR")
    return [context.op("DepthToSpace", g, blocksize=node.attrs["blocksize"], mode=mode)]


@rule("CenterCropPad")
def center_crop_pad(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Crop or zero-pad about the centre: ``∂x`` pads or crops g by the same amounts.

    An odd difference leaves its larger half at the end.
    """
    (g,) = grads
    assert g is not None
    before, after = [], []
    for size, wanted in zip(shape_of(node.inputs[0]), shape_of(node.outputs[0]), strict=True):
        low = abs(size - wanted) // 2
        high = abs(size - wanted) - low
        sign = 1 if size > wanted else -1
        before.append(sign * low)
        after.append(sign * high)
    return [resize_with_zeros(context, g, before, after), None]


@rule("Pad", supports=known({1: "pads", 3: "axes"}))
def pad(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Constant padding: ``∂x`` is the middle of g; other modes add g up where x was copied from."""
    (g,) = grads
    assert g is not None
    mode = node.attrs.get("mode", "constant")
    x = node.inputs[0]
    rank = len(shape_of(x))
    axes = list(range(rank))
    if given(node, 3):
        axes = [axis % rank for axis in integers(node, 3)]
    pads = integers(node, 1)
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis], after[axis] = pads[place], pads[place + len(axes)]
    if mode != "constant":
        return [_unpad_by_index(context, g, x, before, after, mode)]
    # The inverse of padding is padding by the negative amounts.
    return [resize_with_zeros(context, g, [-size for size in before], [-size for size in after])]


def _unpad_by_index(
    context: Context, g: Tensor, x: Tensor, before: list[int], after: list[int], mode: str
) -> Tensor:
    """Add up, axis by axis, the positions of g that were copied from one position of x."""
    shape = [size + low + high for size, low, high in zip(shape_of(x), before, after, strict=True)]
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if not low and not high:
            continue
        size = shape_of(x)[axis]
        source = np.arange(size)[max(0, -low) : size - max(0, -high)]
        source = np.pad(source, (max(0, low), max(0, high)), mode=mode)  # type: ignore[call-overload]
        copies = np.zeros((shape[axis], size), g.dtype)
        copies[np.arange(shape[axis]), source] = 1
        # A product with a 0/1 matrix: exact, and it has kernels everywhere.
        perm = [place for place in range(len(shape)) if place != axis] + [axis]
        moved = context.op("MatMul", context.transpose(g, perm), context.constant(copies))
        g = context.transpose(moved, np.argsort(perm).tolist())
        shape[axis] = size
    return g
