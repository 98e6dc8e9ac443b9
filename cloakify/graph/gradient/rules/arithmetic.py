"""Elementwise arithmetic with numpy broadcasting: Add, Sub, Mul, Div, Neg, Sum, Mean, Pow, …

Every rule sums its result over the axes along which the input was broadcast.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule

Gradients = list[Tensor | None]


@rule("Add", "Sum")
def add(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = Σ xᵢ``: ``∂xᵢ = g``."""
    (g,) = grads
    assert g is not None
    return [_like(context, g, node, tensor) for tensor in node.inputs]


@rule("Mean")
def mean(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = Σ xᵢ / n``: ``∂xᵢ = g / n``."""
    (g,) = grads
    assert g is not None
    g = context.mul(g, context.scalar(1 / len(node.inputs), g))
    return [_like(context, g, node, tensor) for tensor in node.inputs]


@rule("Sub")
def sub(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a − b``: ``∂a = g``, ``∂b = −g``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    return [
        _like(context, g, node, a),
        _like(context, context.neg(g), node, b) if context.needs(b) else None,
    ]


@rule("Mul")
def mul(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a · b``: ``∂a = g · b``, ``∂b = g · a``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    return [
        _like(context, context.mul(g, b), node, a) if context.needs(a) else None,
        _like(context, context.mul(g, a), node, b) if context.needs(b) else None,
    ]


@rule("Div")
def div(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a / b``: ``∂a = g / b``, ``∂b = −g · y / b``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    over = context.div(g, b)
    return [
        _like(context, over, node, a) if context.needs(a) else None,
        _like(context, context.neg(context.mul(over, node.outputs[0])), node, b)
        if context.needs(b)
        else None,
    ]


@rule("Neg")
def neg(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = −x``: ``∂x = −g``."""
    (g,) = grads
    assert g is not None
    return [context.neg(g)]


@rule("Pow")
def power(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = aᵇ``: ``∂a = g · b · aᵇ⁻¹``, ``∂b = g · y · ln a``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    found: Gradients = [None, None]
    exponent = context.cast(b, a.dtype)
    if context.needs(a):
        lower = context.op("Pow", a, context.sub(exponent, context.scalar(1.0, a)))
        found[0] = _like(context, context.mul(g, context.mul(exponent, lower)), node, a)
    if context.needs(b):
        slope = context.mul(node.outputs[0], context.op("Log", a))
        found[1] = _like(context, context.cast(context.mul(g, slope), b.dtype), node, b)
    return found


def _like(context: Context, gradient: Tensor, node: gs.Node, tensor: Tensor) -> Tensor | None:
    """Sum a gradient of the output's shape down to an input's, if that input needs one."""
    if not context.needs(tensor):
        return None
    return context.sum_to(gradient, node.outputs[0].shape, tensor.shape)
