"""Reductions over axes, given as an input or (before opset 18) as an attribute."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, unary
from cloakify.graph.gradient.rules.static import integers
from cloakify.graph.gradient.support import known
from cloakify.graph.model.constants import given
from cloakify.graph.model.shapes import shape_of

_AXES = known({1: "axes"})


@unary("ReduceSum", "ReduceMean", supports=_AXES)
def reduce_linear(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = Σ x`` or its mean over n elements: ``∂x = g`` or ``g / n``, expanded to x."""
    x = node.inputs[0]
    if node.op == "ReduceMean":
        g = context.scale(g, 1 / math.prod(shape_of(x)[axis] for axis in reduced_axes(node)))
    return context.expand(_kept(context, node, g), shape_of(x))


@unary("ReduceMax", "ReduceMin", supports=_AXES)
def reduce_extreme(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y`` = largest or smallest of x: g goes to it, in equal parts where several are."""
    x = node.inputs[0]
    reached = context.compare("Equal", x, _kept(context, node, node.outputs[0]))
    reached = context.cast(reached, x.dtype)
    parts = context.sum(reached, reduced_axes(node))
    return context.mul(reached, context.div(_kept(context, node, g), parts))


@unary("ReduceProd", supports=_AXES)
def reduce_prod(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = Π x``: ``∂xᵢ = g · Π_{j≠i} xⱼ``, also where an x is 0.

    With p the product of all that are not 0, an element other than 0 gets ``p / xᵢ`` unless there
    is a 0 beside it, and a 0 gets p unless there is a second.
    """
    x = node.inputs[0]
    axes = reduced_axes(node)
    one, zero = context.scalar(1.0, x), context.scalar(0.0, x)
    is_zero = context.compare("Equal", x, zero)
    others = context.where(is_zero, one, x)
    product = context.op("ReduceProd", others, context.ints(*axes), keepdims=1) if axes else others
    indicator = context.cast(is_zero, x.dtype)
    beside = context.sub(context.sum(indicator, axes), indicator)
    rest = context.where(context.compare("Equal", beside, zero), context.div(product, others), zero)
    return context.mul(_kept(context, node, g), rest)


@unary("ReduceL1", supports=_AXES)
def reduce_l1(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = Σ |x|``: ``∂x = g · sign x``, 0 at 0."""
    return context.mul(_kept(context, node, g), context.op("Sign", node.inputs[0]))


@unary("ReduceL2", supports=_AXES)
def reduce_l2(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = √(Σ x²)``: ``∂x = g · x / y``, 0 where ``y = 0``."""
    x, y = node.inputs[0], node.outputs[0]
    return context.mul(x, _kept(context, node, safe_div(context, g, y)))


@unary("ReduceSumSquare", supports=_AXES)
def reduce_sum_square(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = Σ x²``: ``∂x = g · 2x``."""
    return context.mul(node.inputs[0], _kept(context, node, context.scale(g, 2.0)))


@unary("ReduceLogSum", supports=_AXES)
def reduce_log_sum(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = ln Σ x``: ``∂x = g · e⁻ʸ``, expanded to x."""
    slope = context.mul(g, context.op("Exp", context.neg(node.outputs[0])))
    return context.expand(_kept(context, node, slope), shape_of(node.inputs[0]))


@unary("ReduceLogSumExp", supports=_AXES)
def reduce_log_sum_exp(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = ln Σ eˣ``: ``∂x = g · exp(x − y)``."""
    x = node.inputs[0]
    share = context.op("Exp", context.sub(x, _kept(context, node, node.outputs[0])))
    return context.mul(_kept(context, node, g), share)


def safe_div(context: Context, above: Tensor, below: Tensor) -> Tensor:
    """Divide; where ``below`` is 0 the result is 0."""
    zero = context.scalar(0.0, below)
    quotient = context.div(above, below)
    return context.where(context.compare("Equal", below, zero), zero, quotient)


def reduced_axes(node: gs.Node) -> list[int]:
    """Return the non-negative axes that a reduction node runs over."""
    rank = len(shape_of(node.inputs[0]))
    axes = node.attrs.get("axes")
    if given(node, 1):
        axes = integers(node, 1)
    if axes:
        return sorted(axis % rank for axis in axes)
    return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))


def kept_shape(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return ``shape`` with the reduced axes kept at size 1."""
    return [1 if axis in axes else size for axis, size in enumerate(shape)]


def _kept(context: Context, node: gs.Node, tensor: Tensor) -> Tensor:
    """Give a tensor of the output's shape the reduced axes back, at size 1."""
    if node.attrs.get("keepdims", 1):
        return tensor
    return context.reshape(tensor, kept_shape(shape_of(node.inputs[0]), reduced_axes(node)))
