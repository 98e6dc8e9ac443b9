"""`DeformConv` of images written out: elements read where the offsets lead, then a 1×1 `Conv`.

Tap (i, j) of the kernel reads, for output (u, v), the image at

    (u · s − p + i · d + Δ, v · s − p + j · d + Δ')

with strides s, pads p, dilations d and offsets Δ, Δ' of its own, linearly between elements and with
zeros outside (see :mod:`.between`); a mask, if there is one, weighs what is read.
Gradient rules then follow from those of the parts, for the image, the offsets and the mask.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto

from cloakify.graph.lowering.decompositions.interpolation import Reader, Taps
from cloakify.graph.model.rewrite import Shapes, Writer, attribute, given

_IMAGE = 4
_BIAS, _MASK = 3, 4


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a `DeformConv` can't be written out; ``None`` if it can."""
    if any(name and name not in shapes for name in node.input):
        return "reads a tensor of unknown shape"
    return None if len(shapes[node.input[0]]) == _IMAGE else "reads no images"


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a `DeformConv` out; :func:`unsupported_reason` must have had nothing against it."""
    kind = types[node.input[0]]
    samples, channels, height, width = shapes[node.input[0]]
    maps, _, *kernel = shapes[node.input[1]]
    out = shapes[node.input[2]][2:]
    taps = kernel[0] * kernel[1]
    groups = attribute(node, "offset_group", 1)
    places = [samples, groups, 1, taps * out[0] * out[1]]
    reader = Reader(writer, kind, blank=True, linear=True)
    # The offsets lie as [N, groups, taps, 2, …], rows first.
    apart = writer.op(
        "Reshape", node.input[2], writer.ints(samples, groups, taps, 2, out[0] * out[1])
    )
    rows, columns = (
        _taps(reader, node, part, axis, size, kernel, out, places)
        for axis, (part, size) in enumerate(
            zip(writer.split(apart, 2, axis=3), (height, width), strict=True)
        )
    )
    flat = writer.op("Reshape", node.input[0], writer.ints(samples, groups, channels // groups, -1))
    read = reader.read(flat, rows, columns, width, [*places[:2], channels // groups, places[3]])
    if given(node, _MASK):
        read = writer.op("Mul", read, writer.op("Reshape", node.input[_MASK], writer.ints(*places)))
    image = writer.op("Reshape", read, writer.ints(samples, channels * taps, *out))
    weights = writer.op("Reshape", node.input[1], writer.ints(maps, -1, 1, 1))
    bias = [node.input[_BIAS]] if given(node, _BIAS) else []
    group = attribute(node, "group", 1)
    writer.op("Conv", image, weights, *bias, output=node.output[0], group=group)


def _taps(
    reader: Reader,
    node: NodeProto,
    offsets: str,
    axis: int,
    size: int,
    kernel: list[int],
    out: tuple[int, ...],
    places: list[int],
) -> Taps:
    """Return what all the kernel's taps read of axis 0 (rows) or 1 (columns)."""
    stride = (attribute(node, "strides") or [1, 1])[axis]
    dilation = (attribute(node, "dilations") or [1, 1])[axis]
    pad = (attribute(node, "pads") or [0] * 4)[axis]
    grid = np.indices((*kernel, *out))
    start = grid[2 + axis] * stride - pad + grid[axis] * dilation
    write = reader.writer
    apart = write.op("Reshape", offsets, write.ints(*places))
    return reader.taps(write.op("Add", apart, reader.number(start.reshape(-1))), size)
