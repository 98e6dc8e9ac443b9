"""From stored rows to what the model takes: laid out and widened, and whole pixels scaled.

Arrays hold samples *as the model takes them*: preprocessed already, in its element type. There are
two freedoms. The layout may differ where the shapes leave no doubt; and where the model takes
images of floats, types that have no preprocessing left hold pixels: bytes from 0 to 255, 16 bits
from 0 to 65535 where they go so far that no fewer bits would hold them, false and true black and
white. Wider integers may hold pixels of any range, which only the user can tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_sample
from cloakify.data.naming import shown
from cloakify.data.preprocessing import Preprocessing
from cloakify.data.sanity import check_values
from cloakify.data.source import RowSource
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.numeric.arrays import as_rows
from cloakify.settings.forms import COLOURS, NUMBERS, PIXELS

# Of images, with alpha.
_MOST_CHANNELS = 4

# Rows that are looked at to tell what range bytes have, and of others, which are larger.
_LOOKED_AT, _ASKED = 256, 16

# What types without preprocessing hold, where the model takes images of floats.
_PIXELS: dict[type[np.generic], str] = {
    np.uint8: "bytes are taken for pixels from 0 to 255",
    np.uint16: "16-bit numbers are taken for pixels from 0 to 65535",
    np.bool_: "false and true are taken for black and white pixels",
}
# Cameras have 10, 12 or 14 bits a pixel: of less than this it can't be told what is white.
_OF_16_BITS, _BLACK = 1 << 14, 1

# Of pixels' range: less than that hardly any image has, and pixels in [0, 1] where 255 is white do.
_NARROW = 0.01


@dataclass(frozen=True)
class RowLayout:
    """Turns stored rows into samples: axes moved, or an axis of one channel added.

    Attributes
    ----------
    axes
        Order of the axes of one stored row, as for ``numpy.transpose``.
    new_axis
        Where in a sample to add an axis of size 1, or ``None``.
    plane
        The shape of a sample whose pixels are stored one after the other, row by row, or that
        takes those of a plane so.
    """

    axes: tuple[int, ...]
    new_axis: int | None = None
    plane: tuple[int, ...] | None = None

    def apply(self, rows: NDArray[np.generic]) -> NDArray[np.generic]:
        """Lay out a batch ``[b, …]``; a view."""
        if self.plane is not None:
            return rows.reshape(len(rows), *self.plane)
        moved = rows.transpose(0, *(axis + 1 for axis in self.axes))
        return moved if self.new_axis is None else np.expand_dims(moved, self.new_axis + 1)


def match_layout(shape: tuple[int, ...], spec: InputSpec, where: str) -> RowLayout:
    """Find how rows of ``shape`` become samples of ``spec``.

    Rows of the model's own shape are taken as they are, even where the other layout would fit too.
    Otherwise the channels are moved to the other end (NCHW ⇄ NHWC), or an axis is added for a
    single channel, if the result fits. As many numbers as an image of one channel has are its
    pixels, row by row, and the other way round; of several channels they could be in more than one
    order.

    Raises
    ------
    DataError
        No way fits.
    """
    sample = spec.sample_shape
    rank = len(shape)
    plain = tuple(range(rank))
    if _fits(shape, sample):
        return RowLayout(plain)
    if spec.channel_axis is not None:
        channel = spec.channel_axis - 1
        if rank == len(sample) and rank > 1:
            axes = (rank - 1, *plain[:-1]) if channel == 0 else (*plain[1:], 0)
            if _fits(tuple(shape[axis] for axis in axes), sample):
                return RowLayout(axes)
        if rank == len(sample) - 1 and _fits((*shape[:channel], 1, *shape[channel:]), sample):
            return RowLayout(plain, channel)
        known = tuple(size for size in sample if size is not None)
        grey = len(known) == len(sample) and sample[channel] == 1
        if rank == 1 and grey and shape[0] == math.prod(known):
            return RowLayout(plain, plane=known)
    if rank == 2 and sample == (math.prod(shape),):
        return RowLayout(plain, plane=(math.prod(shape),))
    wanted = ", ".join("?" if size is None else str(size) for size in sample)
    given = ", ".join(map(str, shape))
    raise DataError(
        f"{where} holds samples of shape ({given}) but input {spec.name!r} takes ({wanted}): "
        "store them as the model takes them"
    )


class RowFeed:
    """Loads rows of a source as the model takes them, and looks at every value on the way.

    Parameters
    ----------
    source
        Where the rows come from.
    spec
        What the model takes.
    preprocessing
        What the rows have been through; says what values to expect.
    box
        Range of the data in data units, or ``None`` to let any finite value pass.
    images
        Whether the rows may be images, whose bytes are pixels.
    bgr
        Whether the model takes the colours of such in the other order than they are stored in,
        which is that of images: red first.
    """

    def __init__(
        self,
        source: RowSource,
        spec: InputSpec,
        preprocessing: Preprocessing,
        box: tuple[float, float] | None,
        *,
        images: bool = False,
        bgr: bool = False,
    ) -> None:
        self._source = source
        self._dtype = spec.dtype
        where = shown(source.path)
        self._layout = match_layout(source.sample_shape, spec, where)
        self.notes: tuple[str, ...] = ()
        self._pixels: Preprocessing | None = None
        self._has_colours = spec.channels != 1 and spec.channel_axis is not None
        self._turned = bgr and self._has_colours
        called = _PIXELS.get(source.dtype.type) if spec.dtype.kind == "f" else None
        if images and called is not None and _are_images(source, spec):
            _check_range(source, where)
            self._pixels = preprocessing
            turned = ", red first, and their colours turned (bgr)" if self._turned else ""
            self.notes = (f"{where}: {called}{turned}",)
        else:
            _check_dtype(source, spec, where)
        # Of no memory: what matters is what becomes of the axes.
        stored = np.broadcast_to(np.False_, (1, *source.sample_shape))
        self.sample_shape = self._layout.apply(stored).shape[1:]
        check_sample(self.sample_shape, spec.sample_shape, f"a sample of {where}")
        axis = spec.channel_axis
        self._channel_axis = None if axis is None else axis - 1
        if self._pixels is not None:
            preprocessing.check_channels(1 if axis is None else self.sample_shape[axis - 1])
        self._bounds = None if box is None else self._box(preprocessing, box)
        if self._bounds is not None and self._pixels is None and self._channel_axis is not None:
            self.notes = _narrow(source, where, *self._bounds)

    @property
    def forms(self) -> frozenset[str]:
        """Of :mod:`cloakify.settings.forms`."""
        if self._pixels is None:
            return frozenset({NUMBERS})
        return frozenset({PIXELS, COLOURS} if self._has_colours else {PIXELS})

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Read these samples: ``[len(rows), …]`` in the model's layout and dtype."""
        stored = self._source.take(rows)
        # A value too large for the model's type becomes infinite, which the check reports.
        laid_out = self._layout.apply(stored)
        if self._pixels is not None:
            axis = None if self._channel_axis is None else self._channel_axis + 1
            if self._turned and axis is not None:
                laid_out = np.flip(laid_out, axis)
            laid_out = self._pixels.to_model(laid_out, axis)
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(laid_out, dtype=self._dtype)
        if stored.dtype != x.dtype and x.dtype.kind in "iu":
            _check_kept(laid_out, x, lambda slot: self._source.where(int(rows[slot])))
        check_values(
            x, self._bounds, stored.dtype, lambda slot: self._source.where(int(rows[slot]))
        )
        return x

    def _box(
        self, preprocessing: Preprocessing, box: tuple[float, float]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        axis = self._channel_axis
        channels = 1 if axis is None else self.sample_shape[axis]
        shape = [1] * len(self.sample_shape)
        if axis is not None:
            shape[axis] = channels
        low, high = preprocessing.box(*box, channels)
        return low.reshape(shape), high.reshape(shape)


def _are_images(source: RowSource, spec: InputSpec) -> bool:
    """Tell whether bytes are pixels: the model takes images, or planes are stored for its numbers.

    Rows of bytes for a model that takes rows of numbers may be anything.
    """
    is_image = spec.channel_axis is not None and (spec.channels or 1) <= _MOST_CHANNELS
    return is_image or len(source.sample_shape) == 2


def _check_range(source: RowSource, where: str) -> None:
    """Raise DataError where numbers are too small for the scale of their type."""
    first = source.take(np.arange(min(len(source), _LOOKED_AT)))
    if not first.size or first.dtype == np.bool_:
        return
    if first.dtype == np.uint16 and first.max() < _OF_16_BITS:
        raise DataError(
            f"{where} holds uint16 up to {first.max()}, and pixels of 16 bits go up to 65535: "
            f"{_as_bytes(first)}store x as float32, preprocessed as the model takes it (x / WHITE, "
            "by what a white pixel is, for a model that takes 0–1)"
        )
    if first.dtype == np.uint8 and first.max() <= 1:
        raise DataError(
            f"{where} holds bytes that are 0 and 1, and pixels of bytes go up to 255: store x as "
            "floats, as the model takes them"
        )


def _narrow(
    source: RowSource, where: str, low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[str, ...]:
    """Say that images take up next to nothing of the range that the model takes."""
    first = source.take(np.arange(min(len(source), _ASKED)))
    if not first.size:
        return ()
    least, most = float(first.min()), float(first.max())
    lowest, highest = float(low.min()), float(high.max())
    if not most - least < _NARROW * (highest - lowest):
        return ()
    return (
        f"{where}: the first {len(first)} samples hold values from {least:.4g} to {most:.4g} "
        f"alone, and by its preprocessing the model takes {lowest:.4g} to {highest:.4g}",
    )


def _as_bytes(first: NDArray[np.generic]) -> str:
    """Return what to do with whole numbers that a byte holds, which most likely are pixels."""
    is_bytes = first.size and first.min() >= 0 and _BLACK < first.max() <= np.iinfo(np.uint8).max
    return "if these are pixels from 0 to 255 store x.astype(np.uint8), else " * bool(is_bytes)


def _check_dtype(source: RowSource, spec: InputSpec, where: str) -> None:
    """Let floats become other floats, whole numbers other ones, and nothing else change kind."""
    stored = source.dtype
    kinds = {stored.kind, spec.dtype.kind}
    if kinds == {"f"} or kinds <= {"i", "u"} or stored == spec.dtype:
        return
    hint = f"store x as {spec.dtype}"
    if stored.kind in "iu" and spec.dtype.kind == "f" and spec.channel_axis is not None:
        first = source.take(np.arange(min(len(source), _ASKED)))
        hint = f"{_as_bytes(first)}{hint}, preprocessed as the model takes it (x / 255 for a model "
        hint += "that takes 0–1)"
    raise DataError(f"{where} holds {stored} but input {spec.name!r} takes {spec.dtype}: {hint}")


def _check_kept(
    stored: NDArray[np.generic], x: NDArray[np.generic], where: Callable[[int], str]
) -> None:
    """Raise DataError where a whole number does not fit the model's type."""
    changed = as_rows(stored != x)
    slots = np.flatnonzero(changed.any(axis=1))
    if len(slots):
        slot = int(slots[0])
        value = as_rows(stored)[slot, changed[slot].argmax()]
        raise DataError(f"{where(slot)} holds {value}, which {x.dtype} can't hold")


def _fits(shape: tuple[int, ...], sample: tuple[int | None, ...]) -> bool:
    return len(shape) == len(sample) and all(
        wanted is None or size == wanted for size, wanted in zip(shape, sample, strict=True)
    )
