"""Convolution: the gradient with respect to the data, never to the weights."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule
from cloakify.graph.gradient.windows import Window, window_of

Gradients = list[Tensor | None]


@rule("Conv")
def conv(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x ∗ W``: ``∂x`` is g convolved with the flipped W, or the transposed convolution.

    With stride 1 the two are the same sum; the runtime's `Conv` kernels are the faster ones.
    """
    (g,) = grads
    assert g is not None
    x, w = node.inputs[:2]
    if context.needs(w):
        raise UnsupportedOperatorError(
            f"Conv {node.name!r} has weights computed from the input; no gradient rule for that"
        )
    window = window_of(node)
    group = node.attrs.get("group", 1)
    out = node.outputs[0].shape
    pads = _flipped_pads(window, x.shape[2:], out[2:])
    if isinstance(w, gs.Constant) and all(s == 1 for s in window.strides) and min(pads) >= 0:
        kernel = context.constant(_flipped(w.values, group))
        return [
            context.op(
                "Conv", g, kernel, pads=pads, dilations=list(window.dilations), group=group
            )
        ]
    return [window.transposed(context, g, w, x.shape[2:], out[2:], group)]


def _flipped(weights, group: int):  # type: ignore[no-untyped-def]
    """Swap a kernel's input and output channels within each group and reverse its taps."""
    out, into, *taps = weights.shape
    grouped = weights.reshape(group, out // group, into, *taps).swapaxes(1, 2)
    flipped = grouped.reshape(group * into, out // group, *taps)
    return flipped[(slice(None), slice(None), *[slice(None, None, -1)] * len(taps))]


def _flipped_pads(window: Window, size: list[int], out: list[int]) -> list[int]:
    """Return the pads with which the stride-1 convolution of g has exactly the shape ``size``."""
    begin = [e - 1 - p for e, p in zip(window.extent, window.pads_begin, strict=True)]
    end = [
        length - width + extent - 1 - low
        for length, width, extent, low in zip(size, out, window.extent, begin, strict=True)
    ]
    return [*begin, *end]
