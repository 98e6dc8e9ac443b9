"""Sliding windows of convolution and pooling, and the transposed sliding that undoes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and explicit pads, one entry a spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Positions from the first to the last tap, dilation counted in."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def overlaps(self) -> bool:
        """Tell whether one position can belong to two windows."""
        return any(e > s for e, s in zip(self.extent, self.strides, strict=True))

    def transposed(
        self,
        builder: Builder,
        g: Tensor,
        kernel: Tensor,
        shape: Sequence[int],
        out: Sequence[int],
        group: int,
    ) -> Tensor:
        """Append the transposed convolution of ``g`` (spatial shape ``out``).

        ``shape`` is that of the result, batch and channels included; ``kernel`` is laid out as the
        forward `Conv`'s: [channels of g, channels of x / group, …].
        """
        size = shape[2:]
        axes = [
            _Spread.of(self.strides[axis], extent, self.pads_begin[axis], size[axis], out[axis])
            for axis, extent in enumerate(self.extent)
        ]
        if not all(axis.reached for axis in axes):
            # Every window lies in the padding.
            nothing = gs.Constant("zero", np.zeros(1, g.dtype))
            return builder.op("ConstantOfShape", builder.ints(*shape), dtype=g.dtype, value=nothing)
        pads, extra = [axis.pad for axis in axes], [axis.extra for axis in axes]
        spread = builder.op(
            "ConvTranspose",
            g,
            kernel,
            strides=list(self.strides),
            dilations=list(self.dilations),
            pads=[*pads, *pads],
            output_padding=extra if any(extra) else None,
            group=group,
        )
        places = [place for place, axis in enumerate(axes) if axis.is_longer]
        if places:
            first = [axes[place].first for place in places]
            last = [axes[place].first + axes[place].kept for place in places]
            along = [place + 2 for place in places]
            spread = builder.op(
                "Slice", spread, builder.ints(*first), builder.ints(*last), builder.ints(*along)
            )
        zeros = [axis.zeros for axis in axes]
        if any(zeros):
            # Padding afterwards is slow, but has no upper limit.
            spread = builder.op("Pad", spread, builder.ints(*[0] * (len(axes) + 4), *zeros))
        return spread


@dataclass(frozen=True)
class _Spread:
    """One axis of a transposed convolution, with equal pads at both ends: cuDNN has no others.

    Attributes
    ----------
    pad
        What is cut off at either end.
    extra
        Output padding: positions at the end that are kept of what was cut, and zeros behind them.
        Below the stride, by definition.
    first, kept
        Which positions of the outcome are wanted, from where and how many.
    zeros
        How many zeros come behind these.
    reached
        Whether any window reaches one that is wanted.
    """

    pad: int
    extra: int
    first: int
    kept: int
    zeros: int
    reached: bool
    length: int

    @classmethod
    def of(cls, stride: int, extent: int, begin: int, size: int, out: int) -> _Spread:
        """Return how ``size`` positions are had of ``out``, ``begin`` of them cut off before."""
        full = stride * (out - 1) + extent
        end = full - begin - size
        reached = full > begin + max(end, 0)
        # Positions at the end that equal pads of `begin` would take, and zeros that are missing.
        extra = begin - end
        if 0 <= extra < stride:
            return cls(begin, extra, 0, size, 0, reached, size)
        pad = min(begin, max(end, 0))
        extra = -end if 0 < -end < stride else 0
        zeros = max(-end, 0) - extra
        return cls(pad, extra, begin - pad, size - zeros, zeros, reached, full - 2 * pad + extra)

    @property
    def is_longer(self) -> bool:
        """Whether some of the outcome is not wanted."""
        return self.length > self.kept


def window_of(node: gs.Node, kernel: Sequence[int] | None = None) -> Window:
    """Read the window of a convolution or pooling node, auto_pad resolved by the static shapes.

    ``kernel`` is its size, where that is no attribute.
    """
    attributes = node.attrs
    size = shape_of(node.inputs[0])[2:]
    kernel = kernel or attributes["kernel_shape"]
    rank = len(kernel)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    auto_pad = attributes.get("auto_pad", "NOTSET")
    pads = attributes.get("pads") or [0] * 2 * rank
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = [], []
        for axis in range(rank):
            out = math.ceil(size[axis] / strides[axis])
            reach = (out - 1) * strides[axis] + dilations[axis] * (kernel[axis] - 1) + 1
            total = max(reach - size[axis], 0)
            small, large = total // 2, total - total // 2
            begin.append(small if auto_pad == "SAME_UPPER" else large)
            end.append(large if auto_pad == "SAME_UPPER" else small)
        pads = [*begin, *end]
    elif auto_pad == "VALID":
        pads = [0] * 2 * rank
    # A stride beyond all there is makes one window, whatever it is; gradients are written out for
    # each position within a stride.
    there = [sum(sizes) for sizes in zip(size, pads[:rank], pads[rank:], strict=True)]
    strides = [max(1, min(pair)) for pair in zip(strides, there, strict=True)]
    return Window(
        tuple(kernel), tuple(strides), tuple(dilations), tuple(pads[:rank]), tuple(pads[rank:])
    )
