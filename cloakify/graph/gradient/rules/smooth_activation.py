"""Smooth activations: Sigmoid and its products with x, Softplus, Gelu, Mish.

Domain ``com.microsoft`` is what ONNX Runtime's optimiser writes into the models that it saves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule, unary
from cloakify.graph.model.constants import given
from cloakify.graph.model.shapes import shape_of
from cloakify.onnxfile.domains import MICROSOFT


@unary("Sigmoid")
def sigmoid(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = 1 / (1 + e⁻ˣ)``: ``∂x = g · y · (1 − y)``."""
    (y,) = node.outputs
    return context.mul(g, context.mul(y, context.complement(y)))


@unary("Softplus")
def softplus(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = ln(1 + eˣ)``: ``∂x = g · σ(x)``."""
    return context.mul(g, context.op("Sigmoid", node.inputs[0]))


@unary("Mish")
def mish(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x · t`` with ``t = tanh(ln(1 + eˣ))``: ``∂x = g · (t + x · σ(x) · (1 − t²))``."""
    (x,) = node.inputs
    t = context.op("Tanh", context.op("Softplus", x))
    bend = context.sub(context.scalar(1.0, x), context.mul(t, t))
    bend = context.mul(context.mul(x, context.op("Sigmoid", x)), bend)
    return context.mul(g, context.add(t, bend))


@unary("Swish")
def swish(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x · σ(αx)``: ``∂x = g · (σ(αx) + αy · (1 − σ(αx)))``."""
    return _swish_gradient(context, node, g, node.attrs.get("alpha", 1.0))


@unary("QuickGelu", domain=MICROSOFT)
def quick_gelu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x · σ(αx)`` with α = 1.702 if not given: as Swish."""
    return _swish_gradient(context, node, g, node.attrs.get("alpha", 1.702))


@unary("Gelu")
def gelu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x · Φ(x)``: ``∂x = g · (Φ(x) + x · φ(x))``, or the tanh approximation of it."""
    slope = _tanh_slope if node.attrs.get("approximate", "none") == "tanh" else _erf_slope
    return context.mul(g, slope(context, node.inputs[0]))


@unary("Gelu", domain=MICROSOFT)
def exact_gelu(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x · Φ(x)``: ``∂x = g · (Φ(x) + x · φ(x))``."""
    return context.mul(g, _erf_slope(context, node.inputs[0]))


@rule("BiasGelu", domain=MICROSOFT)
def bias_gelu(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = Gelu(x + b)``: both get Gelu's gradient."""
    return _biased(context, node, grads, _erf_slope)


@rule("FastGelu", domain=MICROSOFT)
def fast_gelu(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = Gelu(x + b)``, b optional, by the tanh approximation: both get its gradient."""
    return _biased(context, node, grads, _tanh_slope)


def _swish_gradient(context: Context, node: gs.Node, g: Tensor, alpha: float) -> Tensor:
    x, y = node.inputs[0], node.outputs[0]
    gate = context.op("Sigmoid", context.scale(x, alpha))
    rest = context.complement(gate)
    slope = context.add(gate, context.scale(context.mul(y, rest), alpha))
    return context.mul(g, slope)


def _erf_slope(context: Context, x: Tensor) -> Tensor:
    """Return ``Φ(x) + x · φ(x)`` of the normal distribution's Φ and density φ."""
    scaled = context.scale(x, math.sqrt(0.5))
    # Φ = (1 + erf(x/√2)) / 2 lies in [0, 1], where HardSigmoid is that map in one pass.
    distribution = context.op("HardSigmoid", context.op("Erf", scaled), alpha=0.5, beta=0.5)
    # x · φ(x) = s · e^(−s² − ln √π) with s = x/√2: the factor costs no pass of its own.
    exponent = context.sub(context.scalar(-math.log(math.pi) / 2, x), context.mul(scaled, scaled))
    return context.add(distribution, context.mul(scaled, context.op("Exp", exponent)))


def _tanh_slope(context: Context, x: Tensor) -> Tensor:
    """Return the derivative of ``x/2 · (1 + t)`` with ``t = tanh(√(2/π) · (x + 0.044715 x³))``.

    It is ``(1 + t)/2 · (1 + x · (1 − t) · √(2/π) · (1 + 0.134145 x²))``.
    """
    root = math.sqrt(2 / math.pi)
    one = context.scalar(1.0, x)
    square = context.mul(x, x)
    inner = context.add(context.scale(square, 0.044715 * root), context.scalar(root, x))
    t = context.op("Tanh", context.mul(x, inner))
    steep = context.add(context.scale(square, 3 * 0.044715 * root), context.scalar(root, x))
    steep = context.mul(context.mul(x, steep), context.sub(one, t))
    share = context.op("HardSigmoid", t, alpha=0.5, beta=0.5)
    return context.mul(share, context.add(steep, one))


def _biased(
    context: Context,
    node: gs.Node,
    grads: Gradients,
    slope: Callable[[Context, Tensor], Tensor],
) -> Gradients:
    (g,) = grads
    assert g is not None
    x = node.inputs[0]
    bias = node.inputs[1] if given(node, 1) else None
    total = x if bias is None else context.add(x, bias)
    g = context.mul(g, slope(context, total))
    gradients: Gradients = [g if context.needs(x) else None]
    if bias is not None:
        needed = context.needs(bias)
        gradients.append(context.sum_to(g, shape_of(x), shape_of(bias)) if needed else None)
    return gradients
