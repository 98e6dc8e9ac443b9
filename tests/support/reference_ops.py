"""Operators that onnx's reference evaluator gets wrong, written out in numpy.

Of the `onnx` package (1.23), `ConvTranspose` fails for more than one group; the pools shift their
windows in ceil mode, fail for windows with gaps between them, and count `Indices` anew in every
channel, against the operator's description; `GlobalMaxPool` takes images only, `Pad` never cuts,
`GatherElements` takes no fewer indices than elements along other axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from onnx.reference.op_run import OpRun

from tests.support.reference_math import MATH


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


class _Pool(OpRun):
    """Every window's positions, listed; what is done with them is up to the operator."""

    op_domain = ""

    def windows(
        self, x: np.ndarray, attributes: dict[str, object]
    ) -> tuple[list[int], list[tuple[np.ndarray, np.ndarray]]]:
        """Return the spatial output shape and, window by window, (places in x, places counted)."""
        size, kernel = x.shape[2:], attributes["kernel_shape"]
        rank = len(size)
        strides = attributes.get("strides") or [1] * rank
        dilations = attributes.get("dilations") or [1] * rank
        pads = attributes.get("pads") or [0] * 2 * rank
        auto, ceil = attributes.get("auto_pad") or "NOTSET", attributes.get("ceil_mode")
        per_axis = []
        for axis in range(rank):
            extent = dilations[axis] * (kernel[axis] - 1) + 1
            low, high = pads[axis], pads[axis + rank]
            if auto.startswith("SAME"):
                out = math.ceil(size[axis] / strides[axis])
                total = max((out - 1) * strides[axis] + extent - size[axis], 0)
                low = total // 2 if auto == "SAME_UPPER" else total - total // 2
                high = total - low
            room = (size[axis] + low + high - extent) / strides[axis]
            out = (math.ceil(room) if ceil else math.floor(room)) + 1
            if ceil and (out - 1) * strides[axis] >= size[axis] + low:
                out -= 1  # a window must begin inside the data or the begin padding
            taps = np.arange(kernel[axis]) * dilations[axis]
            places = np.arange(out)[:, None] * strides[axis] - low + taps
            per_axis.append((places, (places >= -low) & (places < size[axis] + high)))
        found = []
        for position in itertools.product(*(range(len(places)) for places, _ in per_axis)):
            lists = [places[p] for (places, _), p in zip(per_axis, position, strict=True)]
            padded = [inside[p] for (_, inside), p in zip(per_axis, position, strict=True)]
            grid = np.stack([g.ravel() for g in np.meshgrid(*lists, indexing="ij")])
            counted = np.stack([g.ravel() for g in np.meshgrid(*padded, indexing="ij")]).all(0)
            inside = ((grid >= 0) & (grid < np.array(size)[:, None])).all(0)
            flat = np.ravel_multi_index(grid[:, inside], size)
            found.append((flat, counted))
        return [len(places) for places, _ in per_axis], found


class MaxPool(_Pool):
    """Largest of each window; `Indices` count through the whole tensor."""

    n_outputs = 2

    def _run(self, x: np.ndarray, **attributes: object) -> tuple[np.ndarray, ...]:
        out, windows = self.windows(x, attributes)
        flat = x.reshape(*x.shape[:2], -1)
        base = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2]) * flat.shape[2]
        values, indices = [], []
        for places, _ in windows:
            best = flat[:, :, places].argmax(axis=2)
            indices.append(base + places[best])
            values.append(x.ravel()[indices[-1]])
        shape = (*x.shape[:2], *out)
        y = np.stack(values, axis=2).reshape(shape)
        if len(self.onnx_node.output) == 1:
            return (y,)
        return y, np.stack(indices, axis=2).reshape(shape).astype(np.int64)


class AveragePool(_Pool):
    """Mean of each window."""

    def _run(self, x: np.ndarray, **attributes: object) -> tuple[np.ndarray]:
        out, windows = self.windows(x, attributes)
        flat = x.reshape(*x.shape[:2], -1)
        include = attributes.get("count_include_pad")
        means = [
            flat[:, :, places].sum(axis=2) / (counted.sum() if include else len(places))
            for places, counted in windows
        ]
        return (np.stack(means, axis=2).reshape(*x.shape[:2], *out),)


class LpPool(_Pool):
    """p-norm of each window."""

    def _run(self, x: np.ndarray, **attributes: object) -> tuple[np.ndarray]:
        out, windows = self.windows(x, attributes)
        p = attributes.get("p") or 2
        flat = np.abs(x.reshape(*x.shape[:2], -1)) ** p
        norms = [flat[:, :, places].sum(axis=2) ** (1 / p) for places, _ in windows]
        return (np.stack(norms, axis=2).reshape(*x.shape[:2], *out),)


class GlobalLpPool(OpRun):
    """p-norm over all positions."""

    op_domain = ""

    def _run(self, x: np.ndarray, p: int | None = None) -> tuple[np.ndarray]:
        axes, p = tuple(range(2, x.ndim)), p or 2
        return ((np.abs(x) ** p).sum(axis=axes, keepdims=True) ** (1 / p),)


class GlobalMaxPool(OpRun):
    """Largest over all positions."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class Pad(OpRun):
    """Padding whose negative amounts cut."""

    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        pads: np.ndarray,
        value: np.ndarray | None = None,
        axes: np.ndarray | None = None,
        mode: str | None = None,
    ) -> tuple[np.ndarray]:
        chosen = range(x.ndim) if axes is None else axes
        for place, axis in enumerate(chosen):
            low, high = int(pads[place]), int(pads[place + len(chosen)])
            kept = np.arange(x.shape[axis])[max(0, -low) : x.shape[axis] - max(0, -high)]
            x = np.take(x, kept, axis=axis)
            width = [(0, 0)] * x.ndim
            width[axis] = (max(0, low), max(0, high))
            if mode in (None, "constant"):
                fill = 0 if value is None else value.item()
                x = np.pad(x, width, constant_values=fill)
            else:
                x = np.pad(x, width, mode=mode)
        return (x,)


class GatherElements(OpRun):
    """Elements by their place along one axis."""

    op_domain = ""

    def _run(
        self, x: np.ndarray, indices: np.ndarray, axis: int | None = None
    ) -> tuple[np.ndarray]:
        grid = list(np.indices(indices.shape))
        grid[axis or 0] = indices
        return (x[tuple(grid)],)


OPS = [
    AveragePool,
    ConvTranspose,
    GatherElements,
    GlobalLpPool,
    GlobalMaxPool,
    LpPool,
    MaxPool,
    Pad,
    *MATH,
]
