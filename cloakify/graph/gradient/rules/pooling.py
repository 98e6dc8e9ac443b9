"""Pooling: by largest, mean and p-norm, of windows and of everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, Situation, rule
from cloakify.graph.gradient.rules.static import resize_with_zeros
from cloakify.graph.gradient.support import all_of
from cloakify.graph.gradient.windows import Window, window_of
from cloakify.graph.model.shapes import shape_of


def settled_padding(node: gs.Node, at: Situation) -> str | None:
    """Say where the standard leaves open how a pool is padded."""
    # ONNX Runtime pads for a window without gaps, onnx's shape inference for the dilated one.
    dilated = max(node.attrs.get("dilations") or [1]) > 1
    automatic = node.attrs.get("auto_pad", "NOTSET").startswith("SAME")
    if not (dilated and automatic):
        return None
    return "is dilated and has auto_pad; export it with explicit pads"


def _indices_in_order(node: gs.Node, at: Situation) -> str | None:
    # The rule scatters by the indices that are there.
    turned = len(node.outputs) > 1 and node.attrs.get("storage_order", 0)
    return "returns indices in storage_order 1" if turned else None


@rule("GlobalAveragePool")
def global_average_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` = mean over the n positions: ``∂x = g / n``, expanded."""
    (g,) = grads
    assert g is not None
    shape = shape_of(node.inputs[0])
    share = 1 / math.prod(shape[2:])
    if len(shape) != 4 or g.dtype != np.float32:
        return [context.expand(context.mul(g, context.scalar(share, g)), shape)]
    # Scaled by a convolution, the runtime has it in blocks of channels, and keeps it so.
    g.shape = [*shape[:2], 1, 1]
    return [context.magnify(context.scale_channels(g, np.full(shape[1], share)), shape[2:])]


@rule("GlobalMaxPool")
def global_max_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` = largest over the positions: g goes to the first of the largest."""
    (g,) = grads
    assert g is not None
    x = node.inputs[0]
    flat = [*shape_of(x)[:2], math.prod(shape_of(x)[2:])]
    place = context.op("ArgMax", context.reshape(x, flat), dtype=np.int64, axis=2, keepdims=1)
    zeros = context.constant(np.zeros(flat, g.dtype))
    update = context.reshape(g, [*shape_of(x)[:2], 1])
    return [
        context.reshape(context.op("ScatterElements", zeros, place, update, axis=2), shape_of(x))
    ]


@rule("MaxPool", supports=all_of(settled_padding, _indices_in_order))
def max_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` = largest of each window: g is added at the position MaxPool's `Indices` name."""
    g = grads[0]
    assert g is not None
    x = node.inputs[0]
    window = window_of(node)
    if len(node.outputs) < 2 and _is_tiling(window, shape_of(node.outputs[0]), x):
        return [_to_the_first_largest(context, node.outputs[0], g, x, window)]
    if len(node.outputs) < 2:
        # By a pool of their own: the model's stays in the runtime's blocks of channels, which know
        # no indices. storage_order concerns the indices alone.
        settings = {key: value for key, value in node.attrs.items() if key != "storage_order"}
        _, places = context.ops("MaxPool", x, count=2, **settings)
        places.dtype = np.int64
    else:
        places = node.outputs[1]
    size = math.prod(shape_of(x))
    # With storage_order 0 (the default) an index counts through the whole batch.
    indices = context.reshape(places, [-1])
    zeros = context.op(
        "ConstantOfShape",
        context.ints(size),
        dtype=g.dtype,
        value=gs.Constant("zero", np.zeros(1, g.dtype)),
    )
    reduction = "add" if window.overlaps else None
    flat = context.op(
        "ScatterElements", zeros, indices, context.reshape(g, [-1]), axis=0, reduction=reduction
    )
    return [context.reshape(flat, shape_of(x))]


def _is_tiling(window: Window, out: Sequence[int], x: Tensor) -> bool:
    """Tell whether windows of an image lie side by side, each whole, without padding."""
    return (
        len(shape_of(x)) == 4
        and x.dtype == np.float32
        and window.strides == window.kernel
        and max(window.dilations) == 1
        and max(window.pads_begin + window.pads_end) == 0
        and all(n * k <= m for n, k, m in zip(out[2:], window.kernel, shape_of(x)[2:], strict=True))
    )


def _to_the_first_largest(
    context: Context, y: Tensor, g: Tensor, x: Tensor, window: Window
) -> Tensor:
    """Append the gradient of windows that lie side by side.

    A position is the largest of its window where it equals y there. Of several the first counts:
    positions are numbered backwards within each window, and the largest number is taken by another
    pool. That is a dozen passes over x, and takes ONNX Runtime half to a third of the time that it
    needs for finding indices and scattering by them.
    """
    rest = [
        n * k - m for n, k, m in zip(shape_of(y)[2:], window.kernel, shape_of(x)[2:], strict=True)
    ]
    none = [0] * 4
    x = resize_with_zeros(context, x, none, [0, 0, *rest])
    is_largest = context.op("Equal", x, context.magnify(y, window.kernel), dtype=np.bool_)
    numbers = np.arange(math.prod(window.kernel), 0, -1, dtype=np.float32)
    numbers = np.tile(numbers.reshape(window.kernel), shape_of(y)[2:])[None, None]
    numbered = context.mul(
        context.op("Cast", is_largest, dtype=np.float32, to=1), context.constant(numbers)
    )
    first = context.op(
        "MaxPool", numbered, kernel_shape=list(window.kernel), strides=list(window.strides)
    )
    is_first = context.op("Equal", numbered, context.magnify(first, window.kernel), dtype=np.bool_)
    chosen = context.op("Cast", is_first, dtype=np.float32, to=1)
    placed = context.mul(chosen, context.magnify(g, window.kernel))
    return resize_with_zeros(context, placed, none, [0, 0, *(-n for n in rest)])


@rule("AveragePool", supports=settled_padding)
def average_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` = mean of each window: ``∂x`` adds g / (window's count) over each window."""
    (g,) = grads
    assert g is not None
    return [average_pool_gradient(context, node, g)]


def average_pool_gradient(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """Append the gradient of a node with `AveragePool`'s attributes."""
    x, y = node.inputs[0], node.outputs[0]
    window = window_of(node)
    counts = _counts(
        window, shape_of(x)[2:], shape_of(y)[2:], bool(node.attrs.get("count_include_pad", 0))
    )
    g = context.mul(g, context.constant((1 / counts).astype(g.dtype)[None, None]))
    return _spread(context, g, window, shape_of(x), shape_of(y))


@rule("GlobalLpPool")
def global_lp_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = ‖x‖_p`` over the positions: ``∂x = g · sign(x) |x|ᵖ⁻¹ y¹⁻ᵖ``."""
    (g,) = grads
    assert g is not None
    p = node.attrs.get("p", 2)
    scaled = _over_power(context, g, node.outputs[0], p)
    return [context.mul(_signed_power(context, node.inputs[0], p), scaled)]


@rule("LpPool", supports=settled_padding)
def lp_pool(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = ‖x‖_p`` of each window: ``∂x = sign(x) |x|ᵖ⁻¹`` times g y¹⁻ᵖ added over windows."""
    (g,) = grads
    assert g is not None
    x, y = node.inputs[0], node.outputs[0]
    p = node.attrs.get("p", 2)
    scaled = _over_power(context, g, y, p)
    spread = _spread(context, scaled, window_of(node), shape_of(x), shape_of(y))
    return [context.mul(_signed_power(context, x, p), spread)]


def _signed_power(context: Context, x: Tensor, p: int) -> Tensor:
    """Return ``sign(x) |x|ᵖ⁻¹``."""
    if p == 2:
        return x
    sign = context.op("Sign", x)
    if p == 1:
        return sign
    return context.mul(sign, context.op("Pow", context.op("Abs", x), context.scalar(p - 1, x)))


def _over_power(context: Context, g: Tensor, y: Tensor, p: int) -> Tensor:
    """Return ``g / yᵖ⁻¹``, 0 where a norm is 0."""
    if p == 1:
        return g
    zero = context.scalar(0.0, g)
    power = y if p == 2 else context.op("Pow", y, context.scalar(p - 1, y))
    safe = context.where(context.compare("Greater", power, zero), power, context.scalar(1.0, g))
    # Where y is 0 every x of the window is 0, and so is the factor that g is multiplied with.
    return context.div(g, safe)


def _spread(context: Context, g: Tensor, window: Window, x: list[int], y: list[int]) -> Tensor:
    """Add each element of g (shape y) to all positions of its window in x."""
    channels = x[1]
    # All channels alike: fold them into the batch, so that one kernel of ones serves every shape.
    kernel = context.constant(np.ones((1, 1, *window.kernel), g.dtype))
    folded = context.reshape(g, [x[0] * channels, 1, *y[2:]])
    spread = window.transposed(
        context, folded, kernel, [x[0] * channels, 1, *x[2:]], y[2:], group=1
    )
    return context.reshape(spread, x)


def _counts(window: Window, size: list[int], out: list[int], include_pad: bool) -> np.ndarray:
    """Return how many positions each window averages over, shape ``out``.

    With ``count_include_pad`` the padding counts, but not what ceil mode lets hang over it.
    """
    counts = np.ones(())
    for axis, extent in enumerate(size):
        low = window.pads_begin[axis] if include_pad else 0
        high = window.pads_end[axis] if include_pad else 0
        starts = np.arange(out[axis]) * window.strides[axis] - window.pads_begin[axis]
        taps = np.arange(window.kernel[axis]) * window.dilations[axis]
        places = starts[:, None] + taps[None, :]
        inside = ((places >= -low) & (places < extent + high)).sum(axis=1)
        counts = counts[..., None] * inside
    return counts
