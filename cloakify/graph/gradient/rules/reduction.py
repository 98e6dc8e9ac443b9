"""Reductions with axes as an input (opset 18): ReduceSum, ReduceMean."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule

Gradients = list[Tensor | None]


@rule("ReduceSum", "ReduceMean")
def reduce_linear(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = Σ x`` or its mean over n elements: ``∂x = g`` or ``g / n``, expanded to x."""
    (g,) = grads
    assert g is not None
    x = node.inputs[0]
    axes = reduced_axes(node)
    if node.op == "ReduceMean":
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        g = context.mul(g, context.scalar(1 / count, g))
    return [context.expand(context.reshape(g, kept_shape(x.shape, axes)), x.shape)]


def reduced_axes(node: gs.Node) -> list[int]:
    """Return the non-negative axes that a reduction node runs over."""
    rank = len(node.inputs[0].shape)
    axes = None
    if len(node.inputs) > 1 and not node.inputs[1].is_empty():
        axes = [int(axis) % rank for axis in node.inputs[1].values.reshape(-1)]
    if axes:
        return sorted(axes)
    return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))


def kept_shape(shape: list[int], axes: list[int]) -> list[int]:
    """Return ``shape`` with the reduced axes kept at size 1."""
    return [1 if axis in axes else size for axis, size in enumerate(shape)]
