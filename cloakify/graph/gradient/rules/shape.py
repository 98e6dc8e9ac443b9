"""Operators that move or select elements without changing them."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule

Gradients = list[Tensor | None]


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """The same elements in another shape: ``∂x = g`` in x's shape."""
    (g,) = grads
    assert g is not None
    return [context.reshape(g, node.inputs[0].shape)]


@rule("Identity", "Dropout")
def identity(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` (Dropout in inference drops nothing): ``∂x = g``."""
    return [grads[0]]


@rule("Cast")
def cast(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Between floating types ``∂x = g`` in x's type; nothing flows through integers."""
    (g,) = grads
    assert g is not None
    wanted = np.dtype(node.inputs[0].dtype)
    return [context.cast(g, wanted) if np.issubdtype(wanted, np.floating) else None]


@rule("Transpose")
def transpose(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` with permuted axes: ``∂x = g`` with the inverse permutation."""
    (g,) = grads
    assert g is not None
    rank = len(node.inputs[0].shape)
    perm = node.attrs.get("perm", list(range(rank))[::-1])
    return [context.transpose(g, np.argsort(perm).tolist())]


@rule("Concat")
def concat(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Inputs side by side: each gets its part of g."""
    (g,) = grads
    assert g is not None
    axis = node.attrs["axis"]
    start = 0
    found: Gradients = []
    for tensor in node.inputs:
        end = start + tensor.shape[axis]
        found.append(
            context.op("Slice", g, context.ints(start), context.ints(end), context.ints(axis))
            if context.needs(tensor)
            else None
        )
        start = end
    return found


@rule("Pad")
def pad(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Constant padding: ``∂x`` is the middle of g."""
    (g,) = grads
    assert g is not None
    mode = node.attrs.get("mode", "constant")
    x = node.inputs[0]
    rank = len(x.shape)
    axes = list(range(rank))
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        axes = [int(axis) % rank for axis in node.inputs[3].values]
    pads = [int(size) for size in node.inputs[1].values]
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis], after[axis] = pads[place], pads[place + len(axes)]
    if mode != "constant":
        return [_unpad_by_index(context, g, x, before, after, mode)]
    # The inverse of padding is padding by the negative amounts.
    inverse = context.ints(*(-size for size in (*before, *after)))
    return [context.op("Pad", g, inverse)]


def _unpad_by_index(
    context: Context, g: Tensor, x: Tensor, before: list[int], after: list[int], mode: str
) -> Tensor:
    """Add up, axis by axis, the positions of g that were copied from one position of x."""
    names = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    shape = [size + low + high for size, low, high in zip(x.shape, before, after, strict=True)]
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if not low and not high:
            continue
        size = x.shape[axis]
        source = np.arange(size)[max(0, -low) : size - max(0, -high)]
        source = np.pad(source, (max(0, low), max(0, high)), mode=names[mode])
        copies = np.zeros((shape[axis], size), g.dtype)
        copies[np.arange(shape[axis]), source] = 1
        # A product with a 0/1 matrix: exact, and it has kernels everywhere.
        perm = [place for place in range(len(shape)) if place != axis] + [axis]
        moved = context.op("MatMul", context.transpose(g, perm), context.constant(copies))
        g = context.transpose(moved, np.argsort(perm).tolist())
        shape[axis] = size
    return g
