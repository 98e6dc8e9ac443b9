"""`GridSample` of images written out: which elements are read, and with what weights.

Gradient rules then follow from those of the elementary operators, for the image and for the grid.
A place g in [-1, 1] is the pixel x = (g + 1)/2 · (S − 1) with align_corners, else
x = ((g + 1) · S − 1)/2. Bilinear reading takes ⌊x⌋ and ⌊x⌋ + 1 with weights 1 − (x − ⌊x⌋) and
x − ⌊x⌋, by each axis; nearest reading takes the pixel that x rounds to, halves to even. Outside
the image, zeros stand, or the border's elements, or those of the image reflected:

    |x − l| = n · r + q,  0 ≤ q < r = h − l;   x ← l + q for even n, h − q for odd n

between the borders l and h, which are those of the outer pixels, or with align_corners their
centres. Cubic reading and volumes stay as they are (and have no gradient rule).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.graph.writing import Shapes, Writer, attribute, replace_nodes

_LINEAR = {"bilinear", "linear"}
_IMAGE = 4


def write_out_grid_samples(model: ModelProto, shapes: Shapes, types: Mapping[str, int]) -> bool:
    """Replace the `GridSample` nodes that can be, in place; tell whether any was.

    Parameters
    ----------
    model
        A model whose shape arithmetic is folded.
    shapes, types
        The shape and the element type of each tensor known.
    """
    replacements: dict[int, list[NodeProto]] = {}
    for place, node in enumerate(model.graph.node):
        if node.op_type != "GridSample" or node.domain not in ("", "ai.onnx"):
            continue
        if why_not(node, shapes) is None:
            writer = Writer(f"GridSample_{node.output[0]}")
            image, grid = (shapes[name] for name in node.input)
            _Sampler(writer, node, image, grid, types[node.input[0]]).write()
            replacements[place] = writer.nodes
            model.graph.initializer.extend(writer.constants)
    replace_nodes(model.graph, replacements)
    return bool(replacements)


def why_not(node: NodeProto, shapes: Shapes) -> str | None:
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
        self.dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        self.kind = kind
        self.linear = attribute(node, "mode", "linear") in _LINEAR
        self.padding = attribute(node, "padding_mode", "zeros")
        self.aligned = bool(attribute(node, "align_corners", 0))

    def write(self) -> None:
        write, (samples, channels, height, width) = self.writer, self.image
        rows, columns = self.grid[1:3]
        pixels = rows * columns
        flat = write.op("Reshape", self.node.input[0], write.ints(samples, channels, -1))
        # The grid names columns first.
        axes = [
            self._taps(write.op("Reshape", part, write.ints(samples, 1, pixels)), size)
            for part, size in zip(
                write.split(self.node.input[1], 2, axis=3), (width, height), strict=True
            )
        ]
        total = ""
        for column, weight_x in axes[0]:
            for row, weight_y in axes[1]:
                place = write.op("Mul", row, write.constant(np.array(width, np.int64)))
                place = write.op("Add", place, column)
                place = write.op("Expand", place, write.ints(samples, channels, pixels))
                value = write.op("GatherElements", flat, place, axis=2)
                for weight in filter(None, (weight_x, weight_y)):
                    value = write.op("Mul", value, weight)
                total = write.op("Add", total, value) if total else value
        shape = write.ints(samples, channels, rows, columns)
        write.op("Reshape", total, shape, output=self.node.output[0])

    def _taps(self, place: str, size: int) -> list[tuple[str, str]]:
        """Return the elements read along an axis, int64, and their weights; "" for a weight of 1.

        Parameters
        ----------
        place
            Where to read, in the grid's units.
        size
            How many elements there are.
        """
        write = self.writer
        x = write.op("Add", place, self._number(1))
        if self.aligned:
            x = write.op("Mul", x, self._number((size - 1) / 2))
        else:
            x = write.op("Sub", write.op("Mul", x, self._number(size / 2)), self._number(0.5))
        if self.padding == "reflection":
            x = self._reflected(x, size)
        if not self.linear:
            nearest = write.op("Round", x)
            return [(self._index(nearest, size), self._inside(nearest, size))]
        low = write.op("Floor", x)
        high = write.op("Add", low, self._number(1))
        after = write.op("Sub", x, low)
        before = write.op("Sub", self._number(1), after)
        taps = []
        for element, weight in ((low, before), (high, after)):
            inside = self._inside(element, size)
            weight = write.op("Mul", weight, inside) if inside else weight
            taps.append((self._index(element, size), weight))
        return taps

    def _index(self, element: str, size: int) -> str:
        """Return the element as a number of the axis: the border's where it is outside."""
        clipped = self.writer.op("Clip", element, self._number(0), self._number(size - 1))
        return self.writer.op("Cast", clipped, to=TensorProto.INT64)

    def _inside(self, element: str, size: int) -> str:
        """Return 1 where there is such an element, else 0; "" where none is left out."""
        if self.padding != "zeros":
            return ""
        write = self.writer
        low = write.op("GreaterOrEqual", element, self._number(0))
        high = write.op("LessOrEqual", element, self._number(size - 1))
        return write.op("Cast", write.op("And", low, high), to=self.kind)

    def _reflected(self, x: str, size: int) -> str:
        write = self.writer
        low, high = (0.0, size - 1.0) if self.aligned else (-0.5, size - 0.5)
        if high == low:
            return write.op("Mul", x, self._number(0))
        distance = write.op("Abs", write.op("Sub", x, self._number(low)))
        turns = write.op("Floor", write.op("Div", distance, self._number(high - low)))
        rest = write.op("Sub", distance, write.op("Mul", turns, self._number(high - low)))
        half = write.op("Floor", write.op("Mul", turns, self._number(0.5)))
        # 0 for an even number of turns, 1 for an odd one.
        odd = write.op("Sub", turns, write.op("Add", half, half))
        there = write.op("Add", rest, self._number(low))
        back = write.op("Sub", self._number(high), rest)
        return write.op(
            "Add",
            write.op("Mul", write.op("Sub", self._number(1), odd), there),
            write.op("Mul", odd, back),
        )

    def _number(self, value: float) -> str:
        return self.writer.constant(np.array(value, self.dtype))
