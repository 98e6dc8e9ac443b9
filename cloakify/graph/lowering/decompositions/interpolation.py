"""Reading an image at places between its elements, written out in standard operators.

Linear reading at p takes ⌊p⌋ and ⌊p⌋ + 1 with weights 1 − (p − ⌊p⌋) and p − ⌊p⌋, by each axis;
nearest reading takes the element that p rounds to, halves to even. Outside of the image stand
zeros, or the border's elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cloakify.graph.model.rewrite import Writer

# The elements read along an axis, int64, each with its weight; "" for a weight of 1.
Taps = list[tuple[str, str]]


@dataclass(frozen=True)
class Reader:
    """Writes what reads an image of element type ``kind``.

    Attributes
    ----------
    writer
        What is written with.
    kind
        The element type of the image and of places, an ONNX code.
    blank
        Whether zeros stand outside of the image, rather than the border's elements.
    linear
        Whether to read between elements, rather than the nearest one.
    """

    writer: Writer
    kind: int
    blank: bool
    linear: bool

    def taps(self, place: str, size: int) -> Taps:
        """Return what is read of an axis of ``size`` elements at ``place``, counted in elements."""
        write = self.writer
        if not self.linear:
            nearest = write.op("Round", place)
            return [(self._index(nearest, size), self._inside(nearest, size))]
        low = write.op("Floor", place)
        high = write.op("Add", low, self.number(1))
        after = write.op("Sub", place, low)
        before = write.op("Sub", self.number(1), after)
        taps = []
        for element, weight in ((low, before), (high, after)):
            inside = self._inside(element, size)
            weight = write.op("Mul", weight, inside) if inside else weight
            taps.append((self._index(element, size), weight))
        return taps

    def read(self, flat: str, rows: Taps, columns: Taps, width: int, shape: Sequence[int]) -> str:
        """Return what stands at some places of an image.

        Parameters
        ----------
        flat
            The image, rows and columns flattened to the last axis.
        rows, columns
            What is read; of a shape that broadcasts to ``shape``.
        width
            How many columns the image has.
        shape
            Of the result: as the image's, with the number of places for that of elements.
        """
        write, total = self.writer, ""
        for column, weight_x in columns:
            for row, weight_y in rows:
                place = write.op("Mul", row, write.constant(np.array(width, np.int64)))
                place = write.op("Add", place, column)
                place = write.op("Expand", place, write.ints(*shape))
                value = write.op("GatherElements", flat, place, axis=len(shape) - 1)
                for weight in filter(None, (weight_x, weight_y)):
                    value = write.op("Mul", value, weight)
                total = write.op("Add", total, value) if total else value
        return total

    def number(self, value: float | np.ndarray) -> str:
        """Return a constant of the image's element type."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.kind)
        return self.writer.constant(np.array(value, dtype))

    def _index(self, element: str, size: int) -> str:
        """Return the element as a number of the axis: the border's where it is outside."""
        clipped = self.writer.op("Clip", element, self.number(0), self.number(size - 1))
        return self.writer.op("Cast", clipped, to=onnx.TensorProto.INT64)

    def _inside(self, element: str, size: int) -> str:
        """Return 1 where there is such an element, else 0; "" where none is left out."""
        if not self.blank:
            return ""
        write = self.writer
        low = write.op("GreaterOrEqual", element, self.number(0))
        high = write.op("LessOrEqual", element, self.number(size - 1))
        return write.op("Cast", write.op("And", low, high), to=self.kind)
