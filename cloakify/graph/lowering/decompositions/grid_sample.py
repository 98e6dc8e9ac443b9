"""`GridSample` of images written out: which elements are read, and with what weights.

Gradient rules then follow from those of the elementary operators, for the image and for the grid.
A place g in [-1, 1] is the pixel x = (g + 1)/2 · (S − 1) with align_corners, else
x = ((g + 1) · S − 1)/2, read as :mod:`.between` says. Outside the image, zeros
stand, or the border's elements, or those of the image reflected:

    |x − l| = n · r + q,  0 ≤ q < r = h − l;   x ← l + q for even n, h − q for odd n

between the borders l and h, which are those of the outer pixels, or with align_corners their
centres. Cubic reading and volumes stay as they are (and have no gradient rule).
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import NodeProto

from cloakify.graph.lowering.decompositions.interpolation import Reader
from cloakify.graph.model.rewrite import Shapes, Writer, attribute

_LINEAR = {"bilinear", "linear"}
_IMAGE = 4


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a `GridSample` out; :func:`unsupported_reason` must have had nothing against it."""
    image, grid = (shapes[name] for name in node.input)
    _Sampler(writer, node, image, grid, types[node.input[0]]).write()


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a `GridSample` can't be written out; ``None`` if it can."""
    if any(name not in shapes for name in node.input):
        return "reads a tensor of unknown shape"
    if len(shapes[node.input[0]]) != _IMAGE:
        return "reads volumes"
    mode = attribute(node, "mode", "linear")
    return None if mode in {*_LINEAR, "nearest"} else f"reads in mode {mode!r}"


class _Sampler:
    """Writes one node out."""

    def __init__(
        self,
        writer: Writer,
        node: NodeProto,
        image: tuple[int, ...],
        grid: tuple[int, ...],
        kind: int,
    ) -> None:
        self.writer, self.node = writer, node
        self.image, self.grid = image, grid
        self.padding = attribute(node, "padding_mode", "zeros")
        self.aligned = bool(attribute(node, "align_corners", 0))
        linear = attribute(node, "mode", "linear") in _LINEAR
        self.reader = Reader(writer, kind, self.padding == "zeros", linear)

    def write(self) -> None:
        write, (samples, channels, height, width) = self.writer, self.image
        rows, columns = self.grid[1:3]
        pixels = rows * columns
        flat = write.op("Reshape", self.node.input[0], write.ints(samples, channels, -1))
        # The grid names columns first.
        across, down = (
            self.reader.taps(
                self._place(write.op("Reshape", part, write.ints(samples, 1, pixels)), size), size
            )
            for part, size in zip(
                write.split(self.node.input[1], 2, axis=3), (width, height), strict=True
            )
        )
        total = self.reader.read(flat, down, across, width, (samples, channels, pixels))
        shape = write.ints(samples, channels, rows, columns)
        write.op("Reshape", total, shape, output=self.node.output[0])

    def _place(self, place: str, size: int) -> str:
        """Return where to read along an axis of ``size`` elements, from the grid's units."""
        write, number = self.writer, self.reader.number
        x = write.op("Add", place, number(1))
        if self.aligned:
            x = write.op("Mul", x, number((size - 1) / 2))
        else:
            x = write.op("Sub", write.op("Mul", x, number(size / 2)), number(0.5))
        return self._reflected(x, size) if self.padding == "reflection" else x

    def _reflected(self, x: str, size: int) -> str:
        write = self.writer
        low, high = (0.0, size - 1.0) if self.aligned else (-0.5, size - 0.5)
        if high == low:
            return write.op("Mul", x, self.reader.number(0))
        distance = write.op("Abs", write.op("Sub", x, self.reader.number(low)))
        turns = write.op("Floor", write.op("Div", distance, self.reader.number(high - low)))
        rest = write.op("Sub", distance, write.op("Mul", turns, self.reader.number(high - low)))
        half = write.op("Floor", write.op("Mul", turns, self.reader.number(0.5)))
        # 0 for an even number of turns, 1 for an odd one.
        odd = write.op("Sub", turns, write.op("Add", half, half))
        there = write.op("Add", rest, self.reader.number(low))
        back = write.op("Sub", self.reader.number(high), rest)
        return write.op(
            "Add",
            write.op("Mul", write.op("Sub", self.reader.number(1), odd), there),
            write.op("Mul", odd, back),
        )
