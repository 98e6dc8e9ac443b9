"""Quantised operators of ONNX Runtime's own domain, as its quantiser writes them.

Each is `DequantizeLinear`, a floating operator and `QuantizeLinear` in one; see
:mod:`~cloakify.graph.gradient.rules.quantised` for what is carried back.
"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.gradient.rules.pooling import average_pool_gradient, settled_padding
from cloakify.graph.gradient.rules.quantised import (
    dequantised,
    matrices,
    product_gradients,
    requantised,
    rescaled,
)
from cloakify.graph.gradient.support import all_of, no_gradient_for, without
from cloakify.graph.model.constants import given
from cloakify.graph.model.shapes import shape_of
from cloakify.onnxfile.domains import MICROSOFT


@rule("QLinearAdd", domain=MICROSOFT)
def add(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a + b``: ``∂a = ∂b = g``."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 6)
    gradients: Gradients = [None] * len(node.inputs)
    for place in (0, 3):
        tensor = node.inputs[place]
        if context.needs(tensor):
            summed = context.sum_to(g, shape_of(node.outputs[0]), shape_of(tensor))
            gradients[place] = rescaled(context, node, place + 1, summed)
    return gradients


@rule("QLinearMul", domain=MICROSOFT)
def mul(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a · b``: ``∂a = g · b``, ``∂b = g · a``."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 6)
    gradients: Gradients = [None] * len(node.inputs)
    for place, other in ((0, 3), (3, 0)):
        tensor = node.inputs[place]
        if context.needs(tensor):
            factor = dequantised(context, node, (other, other + 1, other + 2), 1, g)
            summed = context.sum_to(
                context.mul(g, factor), shape_of(node.outputs[0]), shape_of(tensor)
            )
            gradients[place] = rescaled(context, node, place + 1, summed)
    return gradients


@rule("QLinearConcat", domain=MICROSOFT)
def concat(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Inputs side by side, each with its scale: each gets its part of g."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 0)
    axis = node.attrs["axis"]
    gradients: Gradients = [None] * len(node.inputs)
    start = 0
    for place in range(2, len(node.inputs), 3):
        end = start + shape_of(node.inputs[place])[axis]
        if context.needs(node.inputs[place]):
            limits = (context.ints(start), context.ints(end), context.ints(axis))
            gradients[place] = rescaled(context, node, place + 1, context.op("Slice", g, *limits))
        start = end
    return gradients


@rule("QLinearLeakyRelu", domain=MICROSOFT)
def leaky_relu(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` where ``x ≥ 0``, else ``αx``: ``∂x = g`` or ``αg``."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 3)
    x = dequantised(context, node, (0, 1, 2), 1, g)
    slope = context.scalar(node.attrs.get("alpha", 0.01), g)
    below = context.compare("Less", x, context.scalar(0.0, g))
    return [rescaled(context, node, 1, context.where(below, context.mul(g, slope), g))]


@rule("QLinearSigmoid", domain=MICROSOFT)
def sigmoid(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = 1 / (1 + e⁻ˣ)``: ``∂x = g · σ(x) · (1 − σ(x))``."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 3)
    y = context.op("Sigmoid", dequantised(context, node, (0, 1, 2), 1, g))
    slope = context.mul(y, context.sub(context.scalar(1.0, g), y))
    return [rescaled(context, node, 1, context.mul(g, slope))]


@rule("QLinearGlobalAveragePool", domain=MICROSOFT)
def global_average_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` = mean over the n positions: ``∂x = g / n``, expanded."""
    (g,) = grads
    assert g is not None
    shape = shape_of(node.inputs[0])
    g = requantised(context, node, g, 3)
    positions = shape[1:-1] if node.attrs.get("channels_last", 0) else shape[2:]
    share = context.mul(g, context.scalar(1 / math.prod(positions), g))
    return [rescaled(context, node, 1, context.expand(share, shape))]


@rule(
    "QLinearAveragePool",
    domain=MICROSOFT,
    supports=all_of(without("channels_last", "has its channels last"), settled_padding),
)
def average_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` = mean of each window: as `AveragePool`."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 3)
    return [rescaled(context, node, 1, average_pool_gradient(context, node, g))]


@rule("QGemm", domain=MICROSOFT, supports=no_gradient_for((3, 6), "weights"))
def gemm(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``Y = α A' B' + C``, quantised only where an output scale is given: ``∂A' = α G B'ᵀ``."""
    (g,) = grads
    assert g is not None
    if given(node, 7):
        g = requantised(context, node, g, 7)
    trans_a, trans_b = node.attrs.get("transA", 0), node.attrs.get("transB", 0)
    b = dequantised(context, node, (3, 4, 5), 0 if trans_b else 1, g)
    alpha = node.attrs.get("alpha", 1.0)
    if trans_a:
        product = context.op("Gemm", b, g, alpha=alpha, transA=trans_b, transB=1)
    else:
        product = context.op("Gemm", g, b, alpha=alpha, transB=1 - trans_b)
    return [rescaled(context, node, 1, product)]


@rule("MatMulIntegerToFloat", domain=MICROSOFT, supports=matrices(0, 1))
def matmul_integer_to_float(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``Y = A B + bias`` of two quantised matrices, in floating point."""
    (g,) = grads
    assert g is not None
    return product_gradients(context, node, g, (0, 2, 4), (1, 3, 5))


@rule(
    "DynamicQuantizeMatMul",
    domain=MICROSOFT,
    supports=all_of(no_gradient_for((1,), "weights"), matrices(0, 1)),
)
def dynamic_quantize_matmul(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``Y = A B + bias``, A quantised on the way to a range that holds all of it: ``∂A = G Bᵀ``."""
    (g,) = grads
    assert g is not None
    return product_gradients(context, node, g, (0, None, None), (1, 2, 3))
