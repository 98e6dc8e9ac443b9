"""Elementwise arithmetic with numpy broadcasting: Add, Sub, Mul, Div, Sum, Mean, Mod, Pow

Every rule sums its result over the axes along which the input was broadcast.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule

Gradients = list[Tensor | None]


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

    Where b is ``σ(a)`` (SiLU, as exporters write it), at once ``∂a = g · b · (1 + a − y)``: fewer
    passes over memory.
    """
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    if _is_sigmoid_of(b, a):
        return [_silu_gradient(context, g, a, b, node.outputs[0]), None]
    if _is_sigmoid_of(a, b):
        return [None, _silu_gradient(context, g, b, a, node.outputs[0])]
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
    over = context.div(g, b)
    return [
        like(context, over, node, a) if context.needs(a) else None,
        like(context, context.neg(context.mul(over, node.outputs[0])), node, b)
        if context.needs(b)
        else None,
    ]


@rule("Mod")
def mod(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a − b · trunc(a / b)`` (fmod): ``∂a = g``, ``∂b = −g · trunc(a / b)``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    found: Gradients = [like(context, g, node, a), None]
    if context.needs(b):
        whole = context.op("Round", context.div(context.sub(a, node.outputs[0]), b))
        found[1] = like(context, context.neg(context.mul(g, whole)), node, b)
    return found


@rule("Pow")
def power(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = aᵇ``: ``∂a = g · b · aᵇ⁻¹``, ``∂b = g · y · ln a`` (0 where ``a = 0``)."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    (y,) = node.outputs
    found: Gradients = [None, None]
    if context.needs(a):
        found[0] = like(context, context.mul(g, _power_slope(context, a, b, y)), node, a)
    if context.needs(b):
        zero = context.scalar(0.0, a)
        logarithm = context.op(
            "Log", context.where(context.compare("Equal", a, zero), context.scalar(1.0, a), a)
        )
        slope = context.cast(context.mul(g, context.mul(y, logarithm)), b.dtype)
        found[1] = like(context, slope, node, b)
    return found


def _power_slope(context: Context, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Return ``b · aᵇ⁻¹``; products stand in for the powers that models are full of."""
    exponents = {float(value) for value in b.values.flat} if _is_small(b) else set()
    if exponents == {2.0}:
        return context.add(a, a)
    if exponents == {0.5}:
        return context.div(context.scalar(0.5, a), y)
    if exponents == {3.0}:
        return context.scale(context.mul(a, a), 3.0)
    if exponents == {-1.0}:
        return context.neg(context.mul(y, y))
    exponent = context.cast(b, a.dtype)
    lower = context.op("Pow", a, context.sub(exponent, context.scalar(1.0, a)))
    slope = context.mul(exponent, lower)
    if exponents and 0.0 not in exponents:
        return slope
    # a⁰ is constant, but 0 · 0⁻¹ is not a number.
    zero = context.scalar(0.0, a)
    return context.where(context.compare("Equal", exponent, zero), zero, slope)


def _is_small(tensor: Tensor) -> bool:
    return isinstance(tensor, gs.Constant) and math.prod(tensor.shape) <= 16


def _is_sigmoid_of(gate: Tensor, x: Tensor) -> bool:
    return any(node.op == "Sigmoid" and node.inputs[0] is x for node in gate.inputs)


def _silu_gradient(context: Context, g: Tensor, x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    convolved = any(node.op in ("Conv", "BatchNormalization") for node in x.inputs)
    if convolved and len(x.shape) == 4 and x.dtype == np.float32:
        ones = np.ones(x.shape[1])
        bend = context.add(context.scale_channels(y, -ones, ones), x)
        return context.mul(g, context.mul(gate, bend))
    return context.mul(g, context.add(gate, context.mul(y, context.complement(gate))))


def like(context: Context, gradient: Tensor, node: gs.Node, tensor: Tensor) -> Tensor | None:
    """Sum a gradient of the output's shape down to an input's, if that input needs one."""
    if not context.needs(tensor):
        return None
    return context.sum_to(gradient, node.outputs[0].shape, tensor.shape)
