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
        # ConvTranspose yields stride·(out − 1) + extent positions, begin pads cut off; those at the
        # end that no window reached are zeros: output padding (below the stride, by definition).
        pads_begin, pads_end, extra = [], [], []
        reached = True
        for axis, extent in enumerate(self.extent):
            full = self.strides[axis] * (out[axis] - 1) + extent
            cut = full - self.pads_begin[axis] - size[axis]
            pads_begin.append(self.pads_begin[axis])
            pads_end.append(max(cut, 0))
            extra.append(max(-cut, 0))
            reached = reached and full > self.pads_begin[axis] + max(cut, 0)
        if not reached:
            # Every window lies in the padding.
            nothing = gs.Constant("zero", np.zeros(1, g.dtype))
            return builder.op("ConstantOfShape", builder.ints(*shape), dtype=g.dtype, value=nothing)
        fits = all(e < s for e, s in zip(extra, self.strides, strict=True))
        spread = builder.op(
            "ConvTranspose",
            g,
            kernel,
            strides=list(self.strides),
            dilations=list(self.dilations),
            pads=[*pads_begin, *pads_end],
            output_padding=extra if fits and any(extra) else None,
            group=group,
        )
        if not fits:
            # Padding afterwards is slow, but has no upper limit.
            none = [0] * len(extra)
            spread = builder.op("Pad", spread, builder.ints(0, 0, *none, 0, 0, *extra))
        return spread


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
    return Window(
        tuple(kernel), tuple(strides), tuple(dilations), tuple(pads[:rank]), tuple(pads[rank:])
    )
