"""The gradient of a strided convolution as convolutions with stride 1.

Write a position of x as ``i = s·m + ρ``, with stride s, phase ρ < s, begin pad p, and
``ρ + p = s·c + r``. It is read with tap t of W by output o where ``s·o + t = i + p``, so only the
taps ``t = r + s·u`` matter, with ``o = m + c − u``:

    ∂x[s·m + ρ] = Σ_u g[m + c − u] · W[r + s·u]

For each phase that is a stride-1 convolution with the flipped sub-kernel, and interleaving the
phases gives ∂x (the sub-pixel convolution of Shi et al., arXiv 1609.05158, read backwards). The
phases are computed apart, without a wasted product, or, where x has few channels, jointly by one
convolution to s²·C channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.gradient.windows import Window

# Measured on the first and the strided layers of ResNet, ViT and ConvNeXt, against ConvTranspose.
# Jointly it is faster for so many channels, and so many taps that are zero because the phases do
# not have equally many; apart, for so few phases and so many channels in a group.
_MOST_CHANNELS = 4
_MOST_WASTE = 1.4
_MOST_PHASES = 4
_FEWEST_CHANNELS = 16


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

    def pads(self, first: int, width: int) -> tuple[int, int]:
        """Pads with which a kernel of ``width`` taps from ``first`` yields ``count`` positions."""
        return -first, self.count - 1 + first + width - self.out


def phases_of(window: Window, shape: Sequence[int], out: Sequence[int]) -> list[Phases] | None:
    """Return the phases of each axis of a `Conv`, or ``None`` where it has gaps.

    ``shape`` is that of x, ``out`` the spatial shape of the output.
    """
    if any(d != 1 for d in window.dilations):
        return None
    return [
        _phases(window, axis, size, width)
        for axis, (size, width) in enumerate(zip(shape[2:], out, strict=True))
    ]


def gradient_by_phase(
    builder: Builder,
    g: Tensor,
    weights: np.ndarray,
    axes: Sequence[Phases],
    shape: Sequence[int],
    group: int,
) -> Tensor | None:
    """Append the gradient of a strided `Conv`, or nothing where this is not the faster way.

    Parameters
    ----------
    g
        The gradient of the output.
    weights
        [channels out, channels in / group, …].
    shape
        Shape of x.
    """
    counts = [phases.count for phases in axes]
    if _joint(weights, axes, group):
        whole = _whole(builder, _jointly(builder, g, weights, axes), axes, shape)
    elif _apart(weights, axes):
        parts = _one_by_one(builder, g, weights, axes, group)
        whole = _interleaved(builder, parts, [*shape[:2], *counts], axes)
    else:
        return None
    sizes = [phases.count * phases.stride for phases in axes]
    surplus = [size - n for size, n in zip(shape[2:], sizes, strict=True)]
    if any(surplus):
        whole = builder.op("Pad", whole, builder.ints(*[0] * (len(axes) + 4), *surplus))
    return whole


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
        own = range(r, kernel, stride)[::-1]
        taps.append(own)
        first.append(c - len(own) + 1)
    return Phases(math.ceil(size / stride), out, tuple(taps), tuple(first))


def _joint(weights: np.ndarray, axes: Sequence[Phases], group: int) -> bool:
    """Tell whether one convolution for all phases is possible and fast."""
    if group > 1 or weights.shape[1] > _MOST_CHANNELS:
        return False
    held = math.prod(phases.width * phases.stride for phases in axes)
    if held > _MOST_WASTE * math.prod(weights.shape[2:]):
        return False
    return all(min(phases.pads(phases.low, phases.width)) >= 0 for phases in axes)


def _apart(weights: np.ndarray, axes: Sequence[Phases]) -> bool:
    """Tell whether a convolution for each phase is possible and fast."""
    many = math.prod(phases.stride for phases in axes) > _MOST_PHASES
    if many or weights.shape[1] < _FEWEST_CHANNELS:
        return False
    if not any(len(taps) > 1 for phases in axes for taps in phases.taps):
        return False
    return all(
        taps and min(phases.pads(first, len(taps))) >= 0
        for phases in axes
        for first, taps in zip(phases.first, phases.taps, strict=True)
    )


def _jointly(builder: Builder, g: Tensor, weights: np.ndarray, axes: Sequence[Phases]) -> Tensor:
    """Append one convolution to the channels of all phases: [N, Π s · C, …]."""
    swapped = _swapped(weights, 1)
    strides, widths = [phases.stride for phases in axes], [phases.width for phases in axes]
    kernel = np.zeros((*strides, *swapped.shape[:2], *widths), weights.dtype)
    for phase in itertools.product(*map(range, strides)):
        places: list[int | slice] = [*phase, slice(None), slice(None)]
        for phases, rho in zip(axes, phase, strict=True):
            begin = phases.first[rho] - phases.low
            places.append(slice(begin, begin + len(phases.taps[rho])))
        kernel[tuple(places)] = _taps(swapped, axes, phase)
    kernel = kernel.reshape(-1, swapped.shape[1], *widths)
    ends = [phases.pads(phases.low, phases.width) for phases in axes]
    return builder.op("Conv", g, builder.constant(kernel), pads=_in_order(ends))


def _whole(
    builder: Builder, spread: Tensor, axes: Sequence[Phases], shape: Sequence[int]
) -> Tensor:
    """Move the channels of each phase to their positions: [N, Π s · C, m…] -> [N, C, s·m…].

    One axis after the other, the last one first: transposing two axes at once is several times
    slower in ONNX Runtime.
    """
    strides, sizes = [phases.stride for phases in axes], [phases.count for phases in axes]
    for axis in reversed(range(len(axes))):
        apart = [shape[0], *strides[: axis + 1], shape[1], *sizes]
        # Behind its own positions: [N, s…, (s), C, m…, m, …] -> [N, s…, C, m…, m, (s), …].
        places = [place for place in range(len(apart)) if place != axis + 1]
        places.insert(2 * axis + 3, axis + 1)
        spread = builder.transpose(builder.reshape(spread, apart), places)
        sizes[axis] *= strides[axis]
    return builder.reshape(spread, [*shape[:2], *sizes])


def _one_by_one(
    builder: Builder, g: Tensor, weights: np.ndarray, axes: Sequence[Phases], group: int
) -> list[Tensor]:
    """Append a convolution for each phase, those of the last axis in turn first."""
    swapped = _swapped(weights, group)
    parts = []
    for phase in itertools.product(*(range(phases.stride) for phases in axes)):
        ends = [
            phases.pads(phases.first[rho], len(phases.taps[rho]))
            for phases, rho in zip(axes, phase, strict=True)
        ]
        kernel = builder.constant(_taps(swapped, axes, phase))
        parts.append(builder.op("Conv", g, kernel, pads=_in_order(ends), group=group))
    return parts


def _interleaved(
    builder: Builder, parts: list[Tensor], shape: Sequence[int], axes: Sequence[Phases]
) -> Tensor:
    """Interleave parts of one shape, in the order of :func:`_one_by_one`."""
    sizes = list(shape)
    for axis in reversed(range(2, len(shape))):
        stride = axes[axis - 2].stride
        # A new axis behind the positions, along which the phases are put side by side.
        apart = [*sizes[: axis + 1], 1, *sizes[axis + 1 :]]
        parts = [builder.reshape(part, apart) for part in parts]
        parts = [
            builder.op("Concat", *parts[begin : begin + stride], axis=axis + 1)
            for begin in range(0, len(parts), stride)
        ]
        sizes[axis] *= stride
    return builder.reshape(parts[0], sizes)


def _taps(swapped: np.ndarray, axes: Sequence[Phases], phase: Sequence[int]) -> np.ndarray:
    """Return the taps of one phase."""
    for axis, (phases, rho) in enumerate(zip(axes, phase, strict=True)):
        swapped = np.take(swapped, list(phases.taps[rho]), axis=axis + 2)
    return swapped


def _in_order(ends: Sequence[tuple[int, int]]) -> list[int]:
    """Return (begin, end) pads of each axis in the order of the attribute."""
    return [pair[side] for side in (0, 1) for pair in ends]
