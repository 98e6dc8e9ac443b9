"""Normalisation layers in inference form."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule

Gradients = list[Tensor | None]


@rule("BatchNormalization")
def batch_normalization(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = s · (x − μ) / √(σ² + ε) + b`` with stored μ, σ²: ``∂x = g · s / √(σ² + ε)``."""
    (g, *_) = grads
    assert g is not None
    x, scale, _, _, variance = node.inputs
    deviation = context.op(
        "Sqrt", context.add(variance, context.scalar(node.attrs.get("epsilon", 1e-5), variance))
    )
    slope = context.cast(context.div(scale, deviation), g.dtype)
    channels = [1, x.shape[1], *[1] * (len(x.shape) - 2)]
    return [context.mul(g, context.reshape(slope, channels))]
