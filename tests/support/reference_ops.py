"""Operators that onnx's reference evaluator gets wrong, written out in numpy.

`ConvTranspose` of the `onnx` package (1.23) fails for more than one group, and ignores pads in
some ranks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from onnx.reference.op_run import OpRun


class ConvTranspose(OpRun):
    """Transposed convolution with explicit pads, straight from its definition."""

    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None = None,
        auto_pad: str | None = None,
        dilations: Sequence[int] | None = None,
        group: int | None = None,
        kernel_shape: Sequence[int] | None = None,
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[np.ndarray]:
        rank, group = x.ndim - 2, group or 1
        kernel, size = w.shape[2:], x.shape[2:]
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        extra = list(output_padding or [0] * rank)
        reach = [
            s * (n - 1) + d * (k - 1) + 1
            for s, n, d, k in zip(strides, size, dilations, kernel, strict=True)
        ]
        begin, end = _pads(auto_pad or "NOTSET", pads, output_shape, strides, size, reach, extra)
        full = np.zeros((x.shape[0], w.shape[1] * group, *np.add(reach, extra)), x.dtype)
        grouped = x.reshape(x.shape[0], group, -1, *size)
        weights = w.reshape(group, -1, *w.shape[1:])
        for tap in itertools.product(*map(range, kernel)):
            part = np.einsum("ngc...,gcm->ngm...", grouped, weights[(..., *tap)])
            places = tuple(
                slice(t * d, t * d + s * (n - 1) + 1, s)
                for t, d, s, n in zip(tap, dilations, strides, size, strict=True)
            )
            full[(..., *places)] += part.reshape(x.shape[0], -1, *size)
        inner = tuple(slice(b, n - e) for b, e, n in zip(begin, end, full.shape[2:], strict=True))
        result = full[(..., *inner)]
        if bias is not None:
            result = result + bias.reshape(-1, *[1] * rank)
        return (result.astype(x.dtype),)


def _pads(
    auto_pad: str,
    pads: Sequence[int] | None,
    output_shape: Sequence[int] | None,
    strides: Sequence[int],
    size: Sequence[int],
    reach: Sequence[int],
    extra: Sequence[int],
) -> tuple[list[int], list[int]]:
    rank = len(strides)
    if output_shape is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = [s * n for s, n in zip(strides, size, strict=True)]
    if output_shape is None:
        pads = pads or [0] * 2 * rank
        return list(pads[:rank]), list(pads[rank:])
    total = [r + e - o for r, e, o in zip(reach, extra, output_shape, strict=True)]
    small = [t // 2 for t in total]
    large = [t - t // 2 for t in total]
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


OPS = [ConvTranspose]
