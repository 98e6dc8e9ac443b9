"""Convolution: the gradient with respect to the data, never to the weights."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.phases import flipped, gradient_by_phase, phases_of
from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.gradient.rules.static import constant_values, resize_with_zeros
from cloakify.graph.gradient.support import no_gradient_for
from cloakify.graph.gradient.windows import Window, window_of
from cloakify.graph.gradient.zero_insertion import gradient_by_zeros
from cloakify.graph.model.shapes import shape_of

_NARROW = 4


@rule("Conv", supports=no_gradient_for((1, 2), "weights"))
def conv(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x ∗ W``: ``∂x`` is the transposed convolution of g by W."""
    (g,) = grads
    assert g is not None
    x, w = node.inputs[:2]
    return [conv_gradient(context, node, g, x, w)]


def conv_gradient(context: Context, node: gs.Node, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """Append the transposed convolution of g by ``w`` for a node with `Conv`'s attributes.

    With stride 1 that is g convolved with the flipped W, unless x has hardly any channels; larger
    strides have a way of their own where the runtime's `Conv` kernels are faster than those of
    `ConvTranspose`.
    """
    window = window_of(node, shape_of(w)[2:])
    group = node.attrs.get("group", 1)
    out = shape_of(node.outputs[0])[2:]
    weights = constant_values(w)
    if weights is None:
        return window.transposed(context, g, w, shape_of(x), out, group)
    pads = _flipped_pads(window, shape_of(x)[2:], out)
    if all(s == 1 for s in window.strides) and _is_narrow(weights, group):
        return window.transposed(context, g, w, shape_of(x), out, group)
    if all(s == 1 for s in window.strides) and min(pads) >= 0:
        kernel = context.constant(flipped(weights, group))
        dilations = list(window.dilations)
        return context.op("Conv", g, kernel, pads=pads, dilations=dilations, group=group)
    gradient = gradient_by_zeros(context, g, weights, window, shape_of(x), out, group)
    axes = phases_of(window, shape_of(x), out)
    if gradient is None and axes is not None:
        gradient = gradient_by_phase(context, g, weights, axes, shape_of(x), group)
    return gradient or window.transposed(context, g, w, shape_of(x), out, group)


def _is_narrow(weights: np.ndarray, group: int) -> bool:
    """Tell whether a kernel reads so few channels that `Conv` wastes most of what it computes.

    It yields channels in blocks of 8 or 16; the first layer's gradient has 1 or 3. Measured on one
    core, mostly with 3×3 kernels: `ConvTranspose` takes 0.1 to 0.3 of the time for 1, 0.2 to 0.5
    for 3 and 4, and as long for 12.
    """
    return group == 1 and weights.shape[1] <= _NARROW and math.prod(weights.shape[2:]) > 1


@rule("ConvTranspose", supports=no_gradient_for((1, 2), "weights"))
def conv_transpose(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` spreads x by W: ``∂x`` is the `Conv` of g with the same W, strides and pads."""
    (g,) = grads
    assert g is not None
    x, w = node.inputs[:2]
    window, size, out = _transposed_window(node), shape_of(x)[2:], shape_of(node.outputs[0])[2:]
    ends = [
        s * (n - 1) + e - y - p
        for s, n, e, y, p in zip(
            window.strides, size, window.extent, out, window.pads_begin, strict=True
        )
    ]
    # What output padding appended was reached by no tap: it is cut off before.
    cuts = [min(0, end) for end in ends]
    g = resize_with_zeros(context, g, [0] * len(shape_of(x)), [0, 0, *cuts])
    return [
        context.op(
            "Conv",
            g,
            w,
            pads=[*window.pads_begin, *(max(0, end) for end in ends)],
            strides=list(window.strides),
            dilations=list(window.dilations),
            group=node.attrs.get("group", 1),
        )
    ]


def _transposed_window(node: gs.Node) -> Window:
    """Read the window of a `ConvTranspose`; only its begin pads are right where it names none."""
    attributes = node.attrs
    size, out = shape_of(node.inputs[0])[2:], shape_of(node.outputs[0])[2:]
    kernel = tuple(shape_of(node.inputs[1])[2:])
    rank = len(kernel)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    pads = attributes.get("pads") or [0] * 2 * rank
    auto_pad = attributes.get("auto_pad", "NOTSET")
    if auto_pad == "VALID":
        pads = [0] * 2 * rank
    elif auto_pad != "NOTSET" or attributes.get("output_shape"):
        # Sizes are given, pads follow from them; an odd one goes to the end for SAME_UPPER only.
        extra = attributes.get("output_padding") or [0] * rank
        total = [
            max(0, s * (n - 1) + o + d * (k - 1) + 1 - y)
            for s, n, o, d, k, y in zip(strides, size, extra, dilations, kernel, out, strict=True)
        ]
        lower = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        pads = [*lower, *(t - low for t, low in zip(total, lower, strict=True))]
    return Window(kernel, tuple(strides), tuple(dilations), tuple(pads[:rank]), tuple(pads[rank:]))


def _flipped_pads(window: Window, size: list[int], out: list[int]) -> list[int]:
    """Return the pads with which the stride-1 convolution of g has exactly the shape ``size``."""
    begin = [e - 1 - p for e, p in zip(window.extent, window.pads_begin, strict=True)]
    end = [
        length - width + extent - 1 - low
        for length, width, extent, low in zip(size, out, window.extent, begin, strict=True)
    ]
    return [*begin, *end]
