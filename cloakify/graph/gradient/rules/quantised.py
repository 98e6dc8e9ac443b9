"""Quantised operators: the gradient passes straight through the rounding, inside the range.

The forward pass stays as it is, integers included. What is carried back for an integer tensor q is
the gradient with respect to q as if it were real, in floating point: with ``x = (q − z) · s``,
``∂q = s · ∂x`` (Bengio et al., arXiv 1308.3432; clipping as in Jacob et al., arXiv 1712.05877).
Scales and zero points count as constants, also where they are computed from data.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, Situation, Supports, rule
from cloakify.graph.gradient.rules.convolution import conv_gradient
from cloakify.graph.gradient.rules.static import along, constant_values
from cloakify.graph.gradient.support import all_of, no_gradient_for, without
from cloakify.graph.model.constants import given
from cloakify.graph.model.shapes import shape_of, static_shape
from cloakify.onnxfile.domains import MICROSOFT

_INTEGERS = {np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32)}


def quantises_to_integers(node: gs.Node, at: Situation) -> str | None:
    """Say what else a node quantises to, in place of integers of at least eight bits."""
    dtype = node.outputs[0].dtype
    if dtype is None or dtype in _INTEGERS:
        return None
    return f"quantises to {_name_of(dtype)}"


def matrices(*places: int) -> Supports:
    """Return what is supported where the inputs at these places are no vectors."""

    def supports(node: gs.Node, at: Situation) -> str | None:
        shapes = [static_shape(node.inputs[place]) for place in places if given(node, place)]
        vectors = any(shape is not None and len(shape) < 2 for shape in shapes)
        return "multiplies vectors" if vectors else None

    return supports


def _name_of(dtype: object) -> str:
    # graphsurgeon leaves types that numpy has not as the standard's codes.
    if isinstance(dtype, int):
        return str(onnx.TensorProto.DataType.Name(dtype))
    return str(dtype)


_WHOLE = without("block_size", "quantises in blocks")
_TO_INTEGERS = all_of(_WHOLE, quantises_to_integers)
_PRODUCT = all_of(matrices(0, 3), quantises_to_integers)


@rule("QuantizeLinear", supports=_TO_INTEGERS)
@rule("QuantizeLinear", domain=MICROSOFT, supports=_TO_INTEGERS)
def quantize_linear(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``q = clip(round(x / s) + z)``: ``∂x = g / s`` where x was not clipped, else 0."""
    (g,) = grads
    assert g is not None
    x, q = node.inputs[0], node.outputs[0]
    axis = node.attrs.get("axis", 1)
    scale = scale_at(context, node, 1, axis, g)
    low, high = integer_range(q)
    zero = parameter(context, node, 2, axis, g)
    # Compared in steps of s: half a step beyond the last integer is where clipping begins.
    steps = context.div(context.cast(x, g.dtype), scale)
    if zero is not None:
        steps = context.add(steps, zero)
    inside = context.op(
        "And",
        context.compare("GreaterOrEqual", steps, context.scalar(low - 0.5, g)),
        context.compare("LessOrEqual", steps, context.scalar(high + 0.5, g)),
    )
    passed = context.where(inside, context.div(g, scale), context.scalar(0.0, g))
    return [context.cast(passed, x.dtype)]


@rule("DequantizeLinear", supports=_WHOLE)
@rule("DequantizeLinear", domain=MICROSOFT, supports=_WHOLE)
def dequantize_linear(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``x = (q − z) · s``: ``∂q = g · s``."""
    (g,) = grads
    assert g is not None
    return [context.mul(g, scale_at(context, node, 1, node.attrs.get("axis", 1), g))]


@rule("DynamicQuantizeLinear")
def dynamic_quantize_linear(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """As `QuantizeLinear`, with a range that holds every x: ``∂x = g / s``, nothing is clipped."""
    g = grads[0]
    return [None if g is None else context.div(g, node.outputs[1])]


@rule("ConvInteger", supports=no_gradient_for((1,), "weights"))
def conv_integer(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = (x − zₓ) ∗ (W − z_w)``, exact: as `Conv`."""
    (g,) = grads
    assert g is not None
    w = dequantised(context, node, (1, None, 3), 0, g)
    return [conv_gradient(context, node, g, node.inputs[0], w)]


@rule("MatMulInteger", supports=matrices(0, 1))
def matmul_integer(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``Y = (A − z_a)(B − z_b)``, exact: as `MatMul`."""
    (g,) = grads
    assert g is not None
    return product_gradients(context, node, g, (0, None, 2), (1, None, 3))


@rule("QLinearConv", supports=all_of(no_gradient_for((3, 8), "weights"), quantises_to_integers))
def qlinear_conv(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """`DequantizeLinear`, `Conv` and `QuantizeLinear` in one."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 6)
    w = dequantised(context, node, (3, 4, 5), 0, g)
    return [rescaled(context, node, 1, conv_gradient(context, node, g, node.inputs[0], w))]


@rule("QLinearMatMul", supports=_PRODUCT)
def qlinear_matmul(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """`DequantizeLinear`, `MatMul` and `QuantizeLinear` in one."""
    (g,) = grads
    assert g is not None
    g = requantised(context, node, g, 6)
    return product_gradients(context, node, g, (0, 1, 2), (3, 4, 5))


# What the rules of quantised operators share; a place is that of an input of the node.

Places = tuple[int, int | None, int | None]


def parameter(
    context: Context,
    node: gs.Node,
    place: int | None,
    axis: int,
    g: Tensor,
    rank: int | None = None,
) -> Tensor | None:
    """Return a scale or zero point as a floating tensor that broadcasts, or ``None``."""
    if place is None or not given(node, place):
        return None
    tensor = node.inputs[place]
    rank = len(shape_of(node.inputs[0])) if rank is None else rank
    known = constant_values(tensor)
    if known is not None:
        return context.constant(along(known.astype(g.dtype), rank, axis))
    shape: list[int] = []
    if np.prod(shape_of(tensor)) > 1:
        shape = [1] * rank
        shape[axis] = int(np.prod(shape_of(tensor)))
    return context.reshape(context.cast(tensor, g.dtype), shape)


def scale_at(
    context: Context, node: gs.Node, place: int, axis: int, g: Tensor, rank: int | None = None
) -> Tensor:
    """Return a scale that the operator can't be without; see :func:`parameter`."""
    scale = parameter(context, node, place, axis, g, rank)
    assert scale is not None, node.op
    return scale


def dequantised(context: Context, node: gs.Node, places: Places, axis: int, g: Tensor) -> Tensor:
    """Return ``(q − z) · s`` in the dtype of g; the scale or the zero point may be missing."""
    tensor = node.inputs[places[0]]
    rank = len(shape_of(tensor))
    scale = parameter(context, node, places[1], axis, g, rank)
    zero = parameter(context, node, places[2], axis, g, rank)
    stored = constant_values(tensor)
    if (
        stored is not None
        and (scale is None or isinstance(scale, gs.Constant))
        and (zero is None or isinstance(zero, gs.Constant))
    ):
        values = stored.astype(g.dtype)
        values = values if zero is None else values - zero.values
        return context.constant(values if scale is None else values * scale.values)
    real = context.cast(tensor, g.dtype)
    real.shape = shape_of(tensor)
    real = real if zero is None else context.sub(real, zero)
    real = real if scale is None else context.mul(real, scale)
    real.shape = shape_of(tensor)
    return real


def requantised(context: Context, node: gs.Node, g: Tensor, scale: int) -> Tensor:
    """Turn the gradient of an output q with the scale at that place into that of its real value.

    Only the integer is known of the output: at the ends of its range it counts as clipped.
    """
    q = node.outputs[0]
    low, high = integer_range(q)
    real = context.cast(q, g.dtype)
    inside = context.op(
        "And",
        context.compare("Greater", real, context.scalar(low, g)),
        context.compare("Less", real, context.scalar(high, g)),
    )
    passed = context.where(inside, g, context.scalar(0.0, g))
    return context.div(passed, scale_at(context, node, scale, 1, g))


def rescaled(context: Context, node: gs.Node, scale: int, gradient: Tensor) -> Tensor:
    """Turn the gradient of a real input into that of its integer: times the scale there."""
    return context.mul(gradient, scale_at(context, node, scale, 1, gradient))


def product_gradients(
    context: Context, node: gs.Node, g: Tensor, a: Places, b: Places
) -> Gradients:
    """Return the gradients of a matrix product's inputs at the first of ``a`` and of ``b``."""
    gradients: Gradients = [None] * len(node.inputs)
    out = shape_of(node.outputs[0])
    for own, other in ((a, b), (b, a)):
        tensor = node.inputs[own[0]]
        if not context.needs(tensor):
            continue
        shape, across = shape_of(tensor), shape_of(node.inputs[other[0]])
        # Zero points and scales go with the rows of A and with the columns of B.
        real = dequantised(context, node, other, len(across) - (2 if other is a else 1), g)
        perm = list(range(len(across)))
        perm[-2:] = perm[-1], perm[-2]
        swapped = context.transpose(real, perm)
        first, second = (g, swapped) if own is a else (swapped, g)
        product = context.op("MatMul", first, second)
        product = context.sum_to(product, [*out[:-2], *shape[-2:]], shape)
        if own[1] is not None:
            axis = len(shape) - (2 if own is a else 1)
            scale = scale_at(context, node, own[1], axis, g, len(shape))
            product = context.mul(product, scale)
        gradients[own[0]] = product
    return gradients


def integer_range(q: Tensor) -> tuple[int, int]:
    """Return the least and the largest integer of a tensor's type."""
    limits = np.iinfo(q.dtype)
    return int(limits.min), int(limits.max)
