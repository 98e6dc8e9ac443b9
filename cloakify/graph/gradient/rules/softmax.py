"""Softmax and LogSoftmax (opset 13 and later: over one axis)."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, unary


@unary("Softmax")
def softmax(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = softmax x``: ``∂x = y · (g − Σ g·y)``.

    Where everything is masked y is NaN. A model that looks for that puts something else in its
    place, and the rule puts 0, or one such row would make the whole gradient NaN.
    """
    (y,) = node.outputs
    if _is_looked_over(y):
        missing = context.op("IsNaN", y, dtype=bool)
        y = context.where(missing, context.scalar(0.0, y), y)
    total = context.sum(context.mul(g, y), [node.attrs.get("axis", -1)])
    return context.mul(y, context.sub(g, total))


@unary("LogSoftmax")
def log_softmax(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = log softmax x``: ``∂x = g − eʸ · Σ g``."""
    (y,) = node.outputs
    total = context.sum(g, [node.attrs.get("axis", -1)])
    return context.sub(g, context.mul(context.op("Exp", y), total))


def _is_looked_over(tensor: Tensor) -> bool:
    """Tell whether the model itself replaces some of a tensor's values, or of a cast of it."""
    readers = tensor.outputs
    casts = [reader.outputs[0] for reader in readers if reader.op == "Cast"]
    replaced = any(reader.op in ("IsNaN", "Where") for reader in readers)
    return replaced or any(_is_looked_over(cast) for cast in casts)
