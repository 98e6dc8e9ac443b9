"""The gradient of a strided convolution as one convolution with stride 1.

Write a position of x as ``i = s·m + ρ``, with stride s, phase ρ < s, begin pad p, and
``ρ + p = s·c + r``. It is read with tap t of W by output o where ``s·o + t = i + p``, so only the
taps ``t = r + s·u`` matter, with ``o = m + c − u``:

    ∂x[s·m + ρ] = Σ_u g[m + c − u] · W[r + s·u]

For each phase that is a stride-1 convolution with the flipped sub-kernel; all phases together are
one convolution to s²·C channels, and moving those channels to their phases gives ∂x (the sub-pixel
convolution of Shi et al., arXiv 1609.05158, read backwards).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.gradient.windows import Window

# Measured on ResNet's and ViT's first layers: with more channels, or with more taps that are zero
# because the phases do not have equally many, ConvTranspose is faster.
_MOST_CHANNELS = 4
_MOST_WASTE = 1.4


@dataclass(frozen=True)
class Phases:
    """One axis.

    Attributes
    ----------
    count
        Positions of x in each phase.
    out
        Positions of g.
    taps
        Taps of each phase, in the order of g's positions.
    first
        Offset into g of each phase's first tap.
    """

    count: int
    out: int
    taps: tuple[range, ...]
    first: tuple[int, ...]

    @property
    def stride(self) -> int:
        return len(self.taps)

    @property
    def low(self) -> int:
        """Offset into g of the first tap of any phase."""
        return min(f for f, taps in zip(self.first, self.taps, strict=True) if taps)

    @property
    def high(self) -> int:
        """Offset into g of the last tap of any phase."""
        return max(f + len(taps) - 1 for f, taps in zip(self.first, self.taps, strict=True) if taps)

    @property
    def width(self) -> int:
        """Taps of the kernel that holds every phase's."""
        return self.high - self.low + 1

    @property
    def pads(self) -> tuple[int, int]:
        """Pads with which the convolution of g yields ``count`` positions."""
        return -self.low, self.count - 1 + self.high - (self.out - 1)


def phases_of(window: Window, shape: Sequence[int], out: Sequence[int]) -> list[Phases] | None:
    """Return the phases of each axis of a `Conv`, or ``None`` where this way is not the faster one.

    ``shape`` is that of x, ``out`` the spatial shape of the output.
    """
    if any(d != 1 for d in window.dilations) or shape[1] > _MOST_CHANNELS:
        return None
    axes = [
        _phases(window, axis, size, width)
        for axis, (size, width) in enumerate(zip(shape[2:], out, strict=True))
    ]
    held = math.prod(phases.width * phases.stride for phases in axes)
    if held > _MOST_WASTE * math.prod(window.kernel):
        return None
    return axes if all(min(phases.pads) >= 0 for phases in axes) else None


def gradient_by_phase(
    builder: Builder, g: Tensor, weights: np.ndarray, axes: Sequence[Phases], shape: Sequence[int]
) -> Tensor:
    """Append the gradient of a strided `Conv` of one group.

    Parameters
    ----------
    g
        The gradient of the output.
    weights
        [channels out, channels in, …].
    shape
        Shape of x.
    """
    rank = len(axes)
    kernel = builder.constant(_kernel(weights, axes))
    pads = [phases.pads[side] for side in (0, 1) for phases in axes]
    spread = builder.op("Conv", g, kernel, pads=pads)
    # [N, s…, C, m…] -> [N, C, m, s, m, s, …]
    strides, counts = [phases.stride for phases in axes], [phases.count for phases in axes]
    apart = builder.reshape(spread, [shape[0], *strides, shape[1], *counts])
    pairs = [place for axis in range(rank) for place in (rank + 2 + axis, 1 + axis)]
    whole = [count * stride for count, stride in zip(counts, strides, strict=True)]
    ordered = builder.transpose(apart, [0, rank + 1, *pairs])
    joined = builder.reshape(ordered, [shape[0], shape[1], *whole])
    surplus = [size - n for size, n in zip(shape[2:], whole, strict=True)]
    if any(surplus):
        joined = builder.op("Pad", joined, builder.ints(*[0] * (rank + 4), *surplus))
    return joined


def flipped(weights: np.ndarray, group: int) -> np.ndarray:
    """Swap a kernel's input and output channels within each group and reverse its taps."""
    swapped = _swapped(weights, group)
    return np.flip(swapped, tuple(range(2, weights.ndim)))


def _swapped(weights: np.ndarray, group: int) -> np.ndarray:
    out, into, *taps = weights.shape
    grouped = weights.reshape(group, out // group, into, *taps).swapaxes(1, 2)
    return grouped.reshape(group * into, out // group, *taps)


def _phases(window: Window, axis: int, size: int, out: int) -> Phases:
    stride, kernel = window.strides[axis], window.kernel[axis]
    taps, first = [], []
    for phase in range(stride):
        c, r = divmod(phase + window.pads_begin[axis], stride)
        found = range(r, kernel, stride)[::-1]
        taps.append(found)
        first.append(c - len(found) + 1)
    return Phases(math.ceil(size / stride), out, tuple(taps), tuple(first))


def _kernel(weights: np.ndarray, axes: Sequence[Phases]) -> np.ndarray:
    """Return the weights of every phase, [Π s · channels of x, channels of g, …]."""
    swapped = _swapped(weights, 1)
    strides, widths = [phases.stride for phases in axes], [phases.width for phases in axes]
    kernel = np.zeros((*strides, *swapped.shape[:2], *widths), weights.dtype)
    for phase in itertools.product(*map(range, strides)):
        part = swapped
        places: list[int | slice] = [*phase, slice(None), slice(None)]
        for axis, (phases, rho) in enumerate(zip(axes, phase, strict=True)):
            taps = phases.taps[rho]
            part = np.take(part, list(taps), axis=axis + 2)
            begin = phases.first[rho] - phases.low
            places.append(slice(begin, begin + len(taps)))
        kernel[tuple(places)] = part
    return kernel.reshape(-1, swapped.shape[1], *widths)
