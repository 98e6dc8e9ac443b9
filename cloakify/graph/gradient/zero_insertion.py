"""Zeros between the positions of a tensor, and the strided convolution's gradient with them.

The gradient of a convolution with stride s is the stride-1 convolution, by the flipped kernel, of g
with s − 1 zeros behind each position. That costs sᵈ times the products, which is nothing for a
depthwise one: it is bound by memory, and ONNX Runtime's `ConvTranspose` takes several times as long
for many groups.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.gradient.phases import flipped
from cloakify.graph.gradient.windows import Window

_MOST_ZEROS = 4


def gradient_by_zeros(
    builder: Builder,
    g: Tensor,
    weights: np.ndarray,
    window: Window,
    shape: Sequence[int],
    out: Sequence[int],
    group: int,
) -> Tensor | None:
    """Append the gradient of a depthwise strided `Conv`; nothing where this is not faster.

    Parameters
    ----------
    g
        The gradient of the output, of spatial shape ``out``.
    weights
        [channels out, channels in / group, …].
    shape
        Shape of x.
    """
    if group == 1 or weights.shape[1] > 1 or math.prod(window.strides) > _MOST_ZEROS:
        return None
    begin = [e - 1 - p for e, p in zip(window.extent, window.pads_begin, strict=True)]
    wide = [s * n for s, n in zip(window.strides, out, strict=True)]
    end = [n - w + p for n, w, p in zip(shape[2:], wide, window.pads_begin, strict=True)]
    if min(*begin, *end) < 0:
        return None
    spread = _with_zeros(builder, g, [shape[0], weights.shape[0], *out], window.strides)
    return builder.op(
        "Conv",
        spread,
        builder.constant(flipped(weights, group)),
        pads=[*begin, *end],
        dilations=list(window.dilations),
        group=group,
    )


def _with_zeros(
    builder: Builder, tensor: Tensor, shape: Sequence[int], strides: Sequence[int]
) -> Tensor:
    """Put zeros behind each position: repeat it, and multiply with a mask.

    That is several times as fast as `Pad` along axes of size 1.
    """
    wide = [s * n for s, n in zip(strides, shape[2:], strict=True)]
    # One channel: the tensor is not to be repeated in the runtime's own blocked layout, from which
    # it would have to be brought back at full size for the mask.
    narrow = builder.reshape(tensor, [shape[0] * shape[1], 1, *shape[2:]])
    repeated = builder.magnify(narrow, strides)
    kept = [np.arange(size) % s == 0 for s, size in zip(strides, wide, strict=True)]
    mask = functools.reduce(np.logical_and.outer, kept).astype(tensor.dtype)[None, None]
    zeroed = builder.mul(repeated, builder.constant(mask))
    return builder.reshape(zeroed, [*shape[:2], *wide])
