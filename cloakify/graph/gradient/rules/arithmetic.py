"""Elementwise arithmetic with numpy broadcasting: Add, Sub, Mul, Div, Sum, Mean, Mod, Pow

Every rule sums its result over the axes along which the input was broadcast.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.model.shapes import shape_of

# Exponents that are looked at one by one.
_FEW = 16


@rule("Add", "Sum")
def add(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = Σ xᵢ``: ``∂xᵢ = g``."""
    (g,) = grads
    assert g is not None
    return [like(context, g, node, tensor) for tensor in node.inputs]


@rule("Mean")
def mean(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = Σ xᵢ / n``: ``∂xᵢ = g / n``."""
    (g,) = grads
    assert g is not None
    g = context.mul(g, context.scalar(1 / len(node.inputs), g))
    return [like(context, g, node, tensor) for tensor in node.inputs]


@rule("Sub")
def sub(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a − b``: ``∂a = g``, ``∂b = −g``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    return [
        like(context, g, node, a),
        like(context, context.neg(g), node, b) if context.needs(b) else None,
    ]


@rule("Mul")
def mul(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a · b``: ``∂a = g · b``, ``∂b = g · a``.

    Where b is ``σ(a)`` (SiLU, as exporters write it), at once ``∂a = g · b · (1 + a − y)``, and
    where it is HardSwish's share of a, ``∂a = g · (b + a/6)`` or ``g · b``: fewer passes over
    memory. Straight through, a yes or no that the data give is a yes.
    """
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    y = node.outputs[0]
    if _is_share_of(a, b):
        return [None, context.mul(g, _slope(context, b, a, y))]
    if _is_share_of(b, a):
        return [context.mul(g, _slope(context, a, b, y)), None]
    if context.straight_through and (_is_choice(a) or _is_choice(b)):
        return (
            [None, like(context, g, node, b)]
            if _is_choice(a)
            else [like(context, g, node, a), None]
        )
    return [
        like(context, context.mul(g, b), node, a) if context.needs(a) else None,
        like(context, context.mul(g, a), node, b) if context.needs(b) else None,
    ]


@rule("Div")
def div(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a / b``: ``∂a = g / b``, ``∂b = −g · y / b``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    over = context.div(g, context.off_zero(b) if context.needs(b) else b)
    y = node.outputs[0]
    return [
        like(context, over, node, a) if context.needs(a) else None,
        like(context, context.neg(context.mul(over, context.at_most(y))), node, b)
        if context.needs(b)
        else None,
    ]


@rule("Mod")
def mod(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a − b · trunc(a / b)`` (fmod): ``∂a = g``, ``∂b = −g · trunc(a / b)``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    gradients: Gradients = [like(context, g, node, a), None]
    if context.needs(b):
        whole = context.op("Round", context.div(context.sub(a, node.outputs[0]), b))
        gradients[1] = like(context, context.neg(context.mul(g, whole)), node, b)
    return gradients


@rule("Pow")
def power(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = aᵇ``: ``∂a = g · b · aᵇ⁻¹``, ``∂b = g · y · ln a`` (0 where ``a = 0``)."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    (y,) = node.outputs
    gradients: Gradients = [None, None]
    if context.needs(a):
        gradients[0] = like(context, context.mul(g, _power_slope(context, a, b, y)), node, a)
    if context.needs(b):
        zero = context.scalar(0.0, a)
        logarithm = context.op(
            "Log", context.where(context.compare("Equal", a, zero), context.scalar(1.0, a), a)
        )
        slope = context.cast(context.mul(g, context.mul(y, logarithm)), b.dtype)
        gradients[1] = like(context, slope, node, b)
    return gradients


def _power_slope(context: Context, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Return ``b · aᵇ⁻¹``; products stand in for the powers that models are full of."""
    exponents: set[float] = set()
    if isinstance(b, gs.Constant) and math.prod(b.shape) <= _FEW:
        exponents = {float(value) for value in b.values.flat}
    if exponents == {2.0}:
        return context.add(a, a)
    if exponents == {0.5}:
        return context.div(context.scalar(0.5, a), context.off_zero(y))
    if exponents == {3.0}:
        return context.scale(context.mul(a, a), 3.0)
    if exponents == {-1.0}:
        return context.neg(context.at_most(context.mul(y, y)))
    exponent = context.cast(b, a.dtype)
    lower = context.op("Pow", a, context.sub(exponent, context.scalar(1.0, a)))
    slope = context.mul(exponent, lower)
    if not exponents or min(exponents) < 1:
        slope = context.at_most(slope)
    if exponents and 0.0 not in exponents:
        return slope
    # a⁰ is constant, but 0 · 0⁻¹ is not a number.
    zero = context.scalar(0.0, a)
    return context.where(context.compare("Equal", exponent, zero), zero, slope)


def _is_choice(tensor: Tensor) -> bool:
    """Tell whether a tensor holds yes or no as numbers."""
    return any(node.op == "Cast" and node.inputs[0].dtype == np.bool_ for node in tensor.inputs)


def _is_share_of(gate: Tensor, x: Tensor) -> bool:
    """Tell whether ``gate · x`` is SiLU or HardSwish."""
    return any(
        node.inputs[0] is x and (node.op == "Sigmoid" or _is_hard_share(node))
        for node in gate.inputs
    )


def _is_hard_share(node: gs.Node) -> bool:
    """Tell whether a node is HardSwish's ``min(max(x/6 + 1/2, 0), 1)``."""
    if node.op != "HardSigmoid":
        return False
    alpha, beta = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
    return bool(np.float32(alpha) == np.float32(1 / 6) and beta == 0.5)


def _slope(context: Context, x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    """Return the derivative of ``y = gate · x``, SiLU or HardSwish."""
    if gate.inputs[0].op == "HardSigmoid":
        return _hard_swish_slope(context, x, gate)
    if _is_convolved(x):
        ones = np.ones(shape_of(x)[1])
        bend = context.add(context.scale_channels(y, -ones, ones), x)
        return context.mul(gate, bend)
    return context.add(gate, context.mul(y, context.complement(gate)))


def _is_convolved(x: Tensor) -> bool:
    """Tell whether a tensor is in blocks of channels, where a sum is fused into a convolution."""
    convolved = any(node.op in ("Conv", "BatchNormalization") for node in x.inputs)
    return convolved and len(shape_of(x)) == 4 and x.dtype == np.float32


def _hard_swish_slope(context: Context, x: Tensor, share: Tensor) -> Tensor:
    """Return ``share + x/6`` within ±3, the share elsewhere."""
    square = context.mul(x, x)
    if x.dtype == np.float32:
        # 1 where x² < 9, so steep that no float lies on the slope.
        inside = context.op("HardSigmoid", square, alpha=-3e37, beta=2.7e38)
    else:
        inside = context.step(context.sub(context.scalar(9.0, x), square))
    kept = context.op("Mul", x, inside, shape=shape_of(x))
    if _is_convolved(x):
        return context.add(context.scale_channels(kept, np.full(shape_of(x)[1], 1 / 6)), share)
    return context.add(share, context.scale(kept, 1 / 6))


def like(context: Context, gradient: Tensor, node: gs.Node, tensor: Tensor) -> Tensor | None:
    """Sum a gradient of the output's shape down to an input's, if that input needs one."""
    if not context.needs(tensor):
        return None
    return context.sum_to(gradient, shape_of(node.outputs[0]), shape_of(tensor))
