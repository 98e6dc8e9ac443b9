"""Activations: functions of one element with a kink or a table of constants.

Where the derivative can be written in the output it is, so that the runtime may still fuse the
activation into the operator before it. At a kink the derivative is that of one side, as noted.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule, unary
from cloakify.graph.model.shapes import shape_of


@unary("Relu")
def relu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = max(x, 0)``: ``∂x = g`` where ``y > 0``, else 0."""
    return context.mul(g, context.step(node.outputs[0]))


@unary("LeakyRelu")
def leaky_relu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x`` where ``x ≥ 0``, else ``αx``: ``∂x = g`` or ``αg``."""
    (x,) = node.inputs
    return _below_zero(context, x, context.scale(g, node.attrs.get("alpha", 0.01)), g)


@rule("PRelu")
def prelu(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` where ``x ≥ 0``, else ``s · x``: ``∂x = g`` or ``s · g``, ``∂s = g · x`` or 0."""
    (g,) = grads
    assert g is not None
    x, slope = node.inputs
    gradients: Gradients = [None, None]
    if context.needs(x):
        gradients[0] = _below_zero(context, x, context.mul(g, slope), g)
    if context.needs(slope):
        below = _below_zero(context, x, context.mul(g, x), context.scalar(0.0, g))
        gradients[1] = context.sum_to(below, shape_of(x), shape_of(slope))
    return gradients


@unary("Elu")
def elu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x`` where ``x ≥ 0``, else ``α(eˣ − 1)``: ``∂x = g`` or ``g · (y + α)``."""
    x, y = node.inputs[0], node.outputs[0]
    slope = context.add(y, context.scalar(node.attrs.get("alpha", 1.0), y))
    return _below_zero(context, x, context.mul(g, slope), g)


@unary("Selu")
def selu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = γx`` where ``x > 0``, else ``γα(eˣ − 1)``: ``∂x = γg`` or ``g · (y + γα)``."""
    x, y = node.inputs[0], node.outputs[0]
    alpha = node.attrs.get("alpha", 1.67326319217681884765625)
    gamma = node.attrs.get("gamma", 1.05070102214813232421875)
    slope = context.add(y, context.scalar(gamma * alpha, y))
    return _below_zero(context, x, context.mul(g, slope), context.scale(g, gamma))


@unary("Celu")
def celu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x`` where ``x ≥ 0``, else ``α(exp(x/α) − 1)``: ``∂x = g`` or ``g · (y/α + 1)``."""
    x, y = node.inputs[0], node.outputs[0]
    slope = context.scale(y, 1 / node.attrs.get("alpha", 1.0))
    slope = context.add(slope, context.scalar(1.0, y))
    return _below_zero(context, x, context.mul(g, slope), g)


@unary("ThresholdedRelu")
def thresholded_relu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x`` where ``x > α``, else 0: ``∂x = g`` or 0."""
    (x,) = node.inputs
    above = context.compare("Greater", x, context.scalar(node.attrs.get("alpha", 1.0), x))
    return context.where(above, g, context.scalar(0.0, g))


@unary("Shrink")
def shrink(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x ± bias`` where ``|x| > λ``, else 0: ``∂x = g`` or 0."""
    (x,) = node.inputs
    limit = context.scalar(node.attrs.get("lambd", 0.5), x)
    beyond = context.compare("Greater", context.op("Abs", x), limit)
    return context.where(beyond, g, context.scalar(0.0, g))


@unary("HardSigmoid")
def hard_sigmoid(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = min(max(αx + β, 0), 1)``: ``∂x = αg`` where ``0 < y < 1``, else 0."""
    slope = context.scale(g, node.attrs.get("alpha", 0.2))
    return context.mul(slope, _inside(context, node.outputs[0]))


@unary("Softsign")
def softsign(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x / (1 + |x|)``: ``∂x = g · (1 − |y|)²``."""
    (y,) = node.outputs
    root = context.sub(context.scalar(1.0, y), context.op("Abs", y))
    return context.mul(g, context.mul(root, root))


def _below_zero(context: Context, x: Tensor, below: Tensor, otherwise: Tensor) -> Tensor:
    return context.where(context.compare("Less", x, context.scalar(0.0, x)), below, otherwise)


def _inside(context: Context, share: Tensor) -> Tensor:
    """Return 1 where ``0 < share < 1``, else 0, for a share in [0, 1]."""
    return context.step(context.mul(share, context.complement(share)))
