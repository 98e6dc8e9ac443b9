"""Normalisation layers: batch (in inference form), layer, RMS, instance and group.

All but the first divide a group of elements by their own spread. With mean μ, inverse deviation
``r = 1 / √(σ² + ε)``, ``c = x − μ`` and h the gradient of ``c · r`` (Ba et al., arXiv 1607.06450):

    ∂x = r · (h − mean h − c · r² · mean(h · c))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule, unary
from cloakify.graph.gradient.rules.static import constant_values
from cloakify.graph.gradient.support import (
    all_of,
    no_gradient_for,
    no_gradient_through,
    without,
)
from cloakify.graph.model.constants import given
from cloakify.graph.model.shapes import shape_of
from cloakify.onnxfile.domains import MICROSOFT

_STATISTICS = "means or deviations"


@rule(
    "BatchNormalization",
    supports=all_of(
        without("training_mode", "is in training mode; export the model for inference"),
        no_gradient_for((1, 2, 3, 4), "parameters"),
        no_gradient_through((1, 2, 3, 4), _STATISTICS),
    ),
)
def batch_normalization(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = s · (x − μ) / √(σ² + ε) + b`` with stored μ, σ²: ``∂x = g · s / √(σ² + ε)``."""
    g = grads[0]
    assert g is not None
    x, scale, _, _, variance = node.inputs
    epsilon = node.attrs.get("epsilon", 1e-5)
    factors, spread = constant_values(scale), constant_values(variance)
    if (
        len(shape_of(x)) == 4
        and g.dtype == np.float32
        and factors is not None
        and spread is not None
    ):
        wide = factors.astype(np.float64) / np.sqrt(spread.astype(np.float64) + epsilon)
        return [context.scale_channels(g, wide)]
    deviation = context.op("Sqrt", context.add(variance, context.scalar(epsilon, variance)))
    slope = context.cast(context.div(scale, deviation), g.dtype)
    return [context.mul(g, context.reshape(slope, _by_channel(x)))]


@rule("LayerNormalization", supports=no_gradient_through((1, 2), _STATISTICS))
def layer_normalization(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = s · (x − μ) · r + b`` over the last axes: see the module; ``∂s = g · c · r``."""
    g = grads[0]
    assert g is not None
    x, scale = node.inputs[:2]
    axes = _axes_from(node)
    spread = _stored_spread(context, node) or _spread(
        context, x, axes, node.attrs.get("epsilon", 1e-5)
    )
    centred = context.sub(x, spread[0])
    gradients: Gradients = [None, None, None]
    if context.needs(x):
        h = context.mul(g, scale)
        gradients[0] = _through(context, h, centred, spread[1], axes)
    if context.needs(scale):
        product = context.mul(g, context.mul(centred, spread[1]))
        gradients[1] = context.sum_to(product, shape_of(x), shape_of(scale))
    if given(node, 2) and context.needs(node.inputs[2]):
        gradients[2] = context.sum_to(g, shape_of(x), shape_of(node.inputs[2]))
    return gradients


@rule(
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    supports=no_gradient_through((1,), _STATISTICS),
)
def rms_normalization(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = s · x · r`` with ``r = 1/√(mean x² + ε)``: ``∂x = r · (h − x · r² · mean(h · x))``.

    h is ``g · s``, and ``∂s = g · x · r``.
    """
    g = grads[0]
    assert g is not None
    x, scale = node.inputs[:2]
    axes = _axes_from(node)
    r = _inverse_root(context, context.mul(x, x), axes, x, node.attrs.get("epsilon", 1e-5))
    gradients: Gradients = [None, None]
    if context.needs(x):
        gradients[0] = _through(context, context.mul(g, scale), x, r, axes, centre=False)
    if context.needs(scale):
        product = context.mul(g, context.mul(x, r))
        gradients[1] = context.sum_to(product, shape_of(x), shape_of(scale))
    return gradients


@rule(
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    domain=MICROSOFT,
    supports=all_of(
        no_gradient_for((2, 3, 4), "parameters"), no_gradient_through((1, 2), _STATISTICS)
    ),
)
def skip_layer_normalization(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Normalise ``t = x + skip (+ bias)``; t itself may be the fourth output. ``∂x = ∂skip = ∂t``.

    Source: onnxruntime, docs/ContribOperators.md.
    """
    g, total = grads[0], grads[3] if len(grads) > 3 else None
    simple = node.op == "SkipSimplifiedLayerNormalization"
    x, skip, scale = node.inputs[:3]
    bias_place = 3 if simple else 4
    if g is not None:
        t = context.add(x, skip)
        if given(node, bias_place):
            t = context.add(t, node.inputs[bias_place])
        axes, epsilon = [len(shape_of(x)) - 1], node.attrs.get("epsilon", 1e-12)
        h = context.mul(g, scale)
        if simple:
            r = _inverse_root(context, context.mul(t, t), axes, t, epsilon)
        else:
            mean, r = _spread(context, t, axes, epsilon)
            t = context.sub(t, mean)
        inner = _through(context, h, t, r, axes, centre=not simple)
        total = inner if total is None else context.add(total, inner)
    if total is None:
        return [None, None]
    return [
        total,
        context.sum_to(total, shape_of(x), shape_of(skip)) if context.needs(skip) else None,
    ]


@rule("InstanceNormalization", supports=no_gradient_for((1, 2), "parameters"))
def instance_normalization(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = s · (x − μ) · r + b`` over the positions of each channel: see the module."""
    g = grads[0]
    assert g is not None
    x, scale = node.inputs[:2]
    axes = list(range(2, len(shape_of(x))))
    mean, r = _spread(context, x, axes, node.attrs.get("epsilon", 1e-5))
    h = context.mul(g, context.reshape(scale, _by_channel(x)))
    return [_through(context, h, context.sub(x, mean), r, axes)]


@rule("GroupNormalization", supports=no_gradient_for((1, 2), "parameters"))
def group_normalization(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = s · (x − μ) · r + b`` over groups of channels, one s a channel (opset 21)."""
    g = grads[0]
    assert g is not None
    x, scale = node.inputs[:2]
    groups = [shape_of(x)[0], node.attrs["num_groups"], -1]
    grouped = context.reshape(x, groups)
    mean, r = _spread(context, grouped, [2], node.attrs.get("epsilon", 1e-5))
    h = context.reshape(context.mul(g, context.reshape(scale, _by_channel(x))), groups)
    centred = context.sub(grouped, mean)
    return [context.reshape(_through(context, h, centred, r, [2]), shape_of(x))]


@unary("MeanVarianceNormalization")
def mean_variance_normalization(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = (x − μ) · r`` over some axes: see the module. The runtime adds 1e-9 to σ, not to σ²."""
    x = node.inputs[0]
    axes = node.attrs.get("axes") or [0, 2, 3]
    mean, r = _spread(context, x, axes, 1e-18)
    return _through(context, g, context.sub(x, mean), r, axes)


@unary("LpNormalization")
def lp_normalization(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x / n`` with n the p-norm: ``∂x = (g − n' · Σ g·y) / n``, 0 where ``n = 0``.

    n' is ``y`` for p = 2 and ``sign x`` for p = 1.
    """
    x, y = node.inputs[0], node.outputs[0]
    order, axis = node.attrs.get("p", 2), node.attrs.get("axis", -1)
    norm = context.op("ReduceL2" if order == 2 else "ReduceL1", x, context.ints(axis), keepdims=1)
    slope = y if order == 2 else context.op("Sign", x)
    along = context.sum(context.mul(g, y), [axis])
    zero = context.scalar(0.0, x)
    inverse = context.where(
        context.compare("Equal", norm, zero), zero, context.op("Reciprocal", norm)
    )
    return context.mul(context.sub(g, context.mul(slope, along)), inverse)


@unary("LRN")
def local_response_normalization(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = x · s^−β`` with ``s = k + α/n · Σ x²`` over n channels around each.

    ``∂x = g · s^−β − 2αβ/n · x · Σ' g · y / s``, Σ' over the channels whose n hold this one.
    """
    x, y = node.inputs[0], node.outputs[0]
    size = node.attrs["size"]
    alpha, beta = node.attrs.get("alpha", 1e-4), node.attrs.get("beta", 0.75)
    rows = np.arange(shape_of(x)[1])
    offset = rows[None, :] - rows[:, None]
    band = (offset >= -((size - 1) // 2)) & (offset <= math.ceil((size - 1) / 2))
    # A product with a 0/1 matrix sums over neighbours: exact, and it has kernels everywhere.
    flat = [shape_of(x)[0], shape_of(x)[1], math.prod(shape_of(x)[2:])]
    near = context.constant(band.astype(x.dtype))
    reached_by = context.constant(np.ascontiguousarray(band.T).astype(x.dtype))
    squares = context.op("MatMul", near, context.reshape(context.mul(x, x), flat))
    s = context.add(
        context.scale(squares, alpha / size), context.scalar(node.attrs.get("bias", 1.0), x)
    )
    s = context.reshape(s, shape_of(x))
    direct = context.mul(g, context.op("Pow", s, context.scalar(-beta, x)))
    pull = context.reshape(context.div(context.mul(g, y), s), flat)
    pull = context.reshape(context.op("MatMul", reached_by, pull), shape_of(x))
    return context.sub(direct, context.mul(context.scale(x, 2 * alpha * beta / size), pull))


def _through(
    context: Context,
    h: Tensor,
    centred: Tensor,
    r: Tensor,
    axes: Sequence[int],
    *,
    centre: bool = True,
) -> Tensor:
    """Return ``r · (h − mean h − c · r² · mean(h · c))``, without ``mean h`` if not centred."""
    along = _mean(context, context.mul(h, centred), axes)
    along = context.mul(along, context.mul(r, r))
    inner = context.sub(h, context.mul(centred, along))
    if centre:
        inner = context.sub(inner, _mean(context, h, axes))
    return context.mul(inner, r)


def _spread(
    context: Context, x: Tensor, axes: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return μ and r of x, the reduced axes kept."""
    mean = _mean(context, x, axes)
    centred = context.sub(x, mean)
    return mean, _inverse_root(context, context.mul(centred, centred), axes, x, epsilon)


def _inverse_root(
    context: Context, squares: Tensor, axes: Sequence[int], x: Tensor, epsilon: float
) -> Tensor:
    variance = context.add(_mean(context, squares, axes), context.scalar(epsilon, x))
    return context.op("Reciprocal", context.op("Sqrt", variance))


def _stored_spread(context: Context, node: gs.Node) -> tuple[Tensor, Tensor] | None:
    """Have a float32 LayerNormalization return its μ and r, which costs nothing."""
    # By the standard they are float32 whatever x is; in a double graph they are computed anew.
    if node.inputs[0].dtype != np.float32 or any(tensor.is_empty() for tensor in node.outputs):
        return None
    shape = shape_of(node.inputs[0])
    for axis in _axes_from(node):
        shape[axis] = 1
    for stem in ("mean", "deviation")[len(node.outputs) - 1 :]:
        name = context.names.fresh(f"cloakify_{stem}")
        node.outputs.append(gs.Variable(name, np.float32, shape))
    return node.outputs[1], node.outputs[2]


def _mean(context: Context, tensor: Tensor, axes: Sequence[int]) -> Tensor:
    return context.op("ReduceMean", tensor, context.ints(*axes), keepdims=1)


def _axes_from(node: gs.Node) -> list[int]:
    rank = len(shape_of(node.inputs[0]))
    return list(range(node.attrs.get("axis", -1) % rank, rank))


def _by_channel(x: Tensor) -> list[int]:
    return [1, shape_of(x)[1], *[1] * (len(shape_of(x)) - 2)]
