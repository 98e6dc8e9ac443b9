"""Softmax and LogSoftmax (opset 13 and later: over one axis)."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule

Gradients = list[Tensor | None]


@rule("Softmax")
def softmax(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = softmax x``: ``∂x = y · (g − Σ g·y)``."""
    (g,) = grads
    assert g is not None
    (y,) = node.outputs
    weighted = context.mul(g, y)
    total = context.sum(weighted, [node.attrs.get("axis", -1)])
    return [context.sub(weighted, context.mul(y, total))]


@rule("LogSoftmax")
def log_softmax(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = log softmax x``: ``∂x = g − eʸ · Σ g``."""
    (g,) = grads
    assert g is not None
    (y,) = node.outputs
    total = context.sum(g, [node.attrs.get("axis", -1)])
    return [context.sub(g, context.mul(context.op("Exp", y), total))]
