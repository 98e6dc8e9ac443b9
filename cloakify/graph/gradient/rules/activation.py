"""Activations: functions of one element.

Where the derivative can be written in the output it is, so that the runtime may still fuse the
activation into the operator before it.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule

Gradients = list[Tensor | None]


@rule("Relu")
def relu(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = max(x, 0)``: ``∂x = g`` where ``y > 0``, else 0."""
    (g,) = grads
    assert g is not None
    (y,) = node.outputs
    zero = context.scalar(0.0, g)
    return [context.where(context.compare("Greater", y, zero), g, zero)]


@rule("LeakyRelu")
def leaky_relu(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` where ``x ≥ 0``, else ``αx``: ``∂x = g`` or ``αg``."""
    (g,) = grads
    assert g is not None
    (x,) = node.inputs
    slope = context.scalar(node.attrs.get("alpha", 0.01), g)
    below = context.compare("Less", x, context.scalar(0.0, x))
    return [context.where(below, context.mul(g, slope), g)]


@rule("Sigmoid")
def sigmoid(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = 1 / (1 + e⁻ˣ)``: ``∂x = g · y · (1 − y)``."""
    (g,) = grads
    assert g is not None
    (y,) = node.outputs
    return [context.mul(g, context.mul(y, context.sub(context.scalar(1.0, y), y)))]


@rule("Tanh")
def tanh(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = tanh x``: ``∂x = g · (1 − y²)``."""
    (g,) = grads
    assert g is not None
    (y,) = node.outputs
    return [context.mul(g, context.sub(context.scalar(1.0, y), context.mul(y, y)))]


@rule("Clip")
def clip(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = min(max(x, low), high)``: ``∂x = g`` strictly inside the range, else 0.

    The bounds themselves get no gradient; they are constants in every classifier seen.
    """
    (g,) = grads
    assert g is not None
    x, y = node.inputs[0], node.outputs[0]
    zero = context.scalar(0.0, g)
    for place, op_type in ((1, "Greater"), (2, "Less")):
        if len(node.inputs) > place and not node.inputs[place].is_empty():
            bound = node.inputs[place]
            # The output equals a bound wherever it was clipped; reading it keeps the fusion.
            g = context.where(context.compare(op_type, y, bound), g, zero)
    return [g if context.needs(x) else None]
