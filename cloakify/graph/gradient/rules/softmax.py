"""Softmax and LogSoftmax (opset 13 and later: over one axis)."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, unary


@unary("Softmax")
def softmax(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = softmax x``: ``∂x = y · (g − Σ g·y)``."""
    (y,) = node.outputs
    total = context.sum(context.mul(g, y), [node.attrs.get("axis", -1)])
    return context.mul(y, context.sub(g, total))


@unary("LogSoftmax")
def log_softmax(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = log softmax x``: ``∂x = g − eʸ · Σ g``."""
    (y,) = node.outputs
    total = context.sum(g, [node.attrs.get("axis", -1)])
    return context.sub(g, context.mul(context.op("Exp", y), total))
