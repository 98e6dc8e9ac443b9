"""From an image file's bytes to one sample as the model takes it.

Decoded by Pillow (the first frame of several; the EXIF orientation is not applied, as training
pipelines do not), turned into the model's number of channels (grey by ITU-R 601-2 luma; an alpha
channel is dropped unless the model has one), resized only where the size does not fit, laid out
as the model's input is, and preprocessed.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloakify.data.bounds import check_sample
from cloakify.data.fitting import ImageFit
from cloakify.data.naming import shown
from cloakify.data.prefetch import prefetch
from cloakify.data.preprocessing import Preprocessing
from cloakify.data.source import EncodedSource
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.printable import one_line
from cloakify.runtime.cores import available_cores
from cloakify.settings.forms import COLOURS, IMAGES

# What the endings in `cloakify.data.folder` stand for. Pillow goes by content and knows forty more,
# some of which it hands to another program: PostScript to Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")

# What Pillow logs of a damaged file would be printed where nobody set logging up; the error says
# what is wrong with it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_SMALL = 16 << 10

# EXIF's tag of which way up an image is.
_ORIENTATION = 0x112

# TIFF's tag of the bits of each channel.
_BITS = 0x102

# Pixels of an image that is decoded while no other is: decoded and converted, it takes up to ten
# bytes for each.
_LARGE = 1 << 24

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

# What Pillow's decoders let through on damaged files, beside its own UnidentifiedImageError
# (an OSError) and its guard against images of a few kilobytes that unpack to gigabytes.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class ImageLayout:
    """How the model's input holds an image.

    Attributes
    ----------
    channels
        1 to 4.
    height, width
        In pixels; ``None`` where the model takes any.
    channel_axis
        Axis of one sample that holds the channels: 0, 2, or ``None`` for a plain plane of grey.
    """

    channels: int
    height: int | None
    width: int | None
    channel_axis: int | None

    @classmethod
    def of(cls, spec: InputSpec) -> ImageLayout:
        """Read it off the model's input.

        Raises
        ------
        DataError
            The input takes no images.
        """
        shape = spec.sample_shape
        if spec.channel_axis is None and len(shape) == 2:
            return cls(1, shape[0], shape[1], None)
        if spec.channel_axis is not None and len(shape) == 3:
            axis = spec.channel_axis - 1
            channels = shape[axis]
            height, width = shape[:axis] + shape[axis + 1 :]
            if channels in _MODES:
                return cls(channels, height, width, axis)
        sizes = ", ".join("?" if size is None else str(size) for size in shape)
        raise DataError(
            f"input {spec.name!r} takes samples of shape ({sizes}), which are no images: "
            "give the data as .npz or .npy"
        )

    def sample_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of one sample of that size."""
        if self.channel_axis is None:
            return (height, width)
        return (
            (self.channels, height, width)
            if self.channel_axis == 0
            else (height, width, self.channels)
        )


class ImageFeed:
    """Loads images of a source as the model takes them.

    Raises
    ------
    DataError
        The model takes no images, or whole numbers that no preprocessing makes of pixels; the first
        image can't be read.
    UsageError
        ``mean`` or ``std`` do not fit the model's channels.
    """

    def __init__(
        self,
        source: EncodedSource,
        spec: InputSpec,
        preprocessing: Preprocessing,
        fit: ImageFit,
        first: int,
    ) -> None:
        self._source = source
        self._preprocessing = preprocessing
        self._fit = fit
        self._layout = ImageLayout.of(spec)
        self._one_at_a_time = Lock()
        self._dtype = spec.dtype
        preprocessing.check_channels(self._layout.channels)
        if spec.dtype.kind in "iu" and preprocessing.scale <= 1:
            raise DataError(
                f"input {spec.name!r} takes whole numbers ({spec.dtype}) but pixels are in [0, 1]: "
                "pass --scale 255"
            )
        if spec.dtype.kind not in "fiu":
            raise DataError(
                f"input {spec.name!r} takes {spec.dtype}, which no image gives: give arrays"
            )
        # Where the model takes any size, the first image sets it for all.
        data = source.read(first)
        height, width = self._pixels(first, data).shape[:2]
        self._size = (height, width)
        self.sample_shape = self._layout.sample_shape(height, width)
        # Handing a small image to another thread takes longer than decoding it.
        self._workers = min(4, available_cores()) if len(data) > _SMALL else 1

    @property
    def forms(self) -> frozenset[str]:
        """Of :mod:`cloakify.settings.forms`."""
        return frozenset({IMAGES, COLOURS} if self._layout.channels > 2 else {IMAGES})

    def notes(self, rows: Sequence[int]) -> tuple[str, ...]:
        """Say what of images is passed over, of some of them: only their headers are read."""
        counts: Counter[str] = Counter()
        for row in rows:
            with suppress(*_DECODE_ERRORS):
                data = io.BytesIO(self._source.read(row))
                with Image.open(data, formats=FORMATS) as image:
                    counts.update(_passed_over(image, self._layout.channels))
        where = shown(self._source.path)
        return tuple(
            f"{where}: {count} of the first {len(rows)} images {what}"
            for what, count in sorted(counts.items())
        )

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Decode these samples: ``[len(rows), …]`` in the model's layout, units and dtype.

        Raises
        ------
        DataError
            One is damaged, or of another size where the model takes any.
        """
        pixels = np.empty((len(rows), *self._size, self._layout.channels), np.float32)

        def decode(job: tuple[int, int, bytes]) -> None:
            slot, row, data = job
            image = self._pixels(row, data)
            if image.shape[:2] != self._size:
                raise DataError(
                    f"{self._source.where(row)} is {_size(image.shape)} but the first image is "
                    f"{_size(self._size)}, and the model takes any size: make all images one size"
                )
            pixels[slot] = image

        # Read in order on this thread, decoded on several: Pillow releases the interpreter's lock.
        jobs = ((slot, row, self._source.read(row)) for slot, row in enumerate(rows.tolist()))
        if self._workers > 1 and len(rows) > 1:
            for _ in prefetch(decode, jobs, depth=self._workers, threads=self._workers):
                pass
        else:
            for job in jobs:
                decode(job)
        return self._to_model(pixels)

    def _to_model(self, pixels: NDArray[np.float32]) -> NDArray[np.generic]:
        x = self._preprocessing.to_model(pixels, 3)
        if self._layout.channel_axis is None:
            x = x[..., 0]
        elif self._layout.channel_axis == 0:
            x = x.transpose(0, 3, 1, 2)
        if self._dtype.kind in "iu":
            limits = np.iinfo(self._dtype.str)
            x = np.clip(np.rint(x), limits.min, limits.max)
        return np.ascontiguousarray(x, dtype=self._dtype)

    def _pixels(self, row: int, data: bytes) -> NDArray[np.float32]:
        """One image on the [0, 1] scale: ``[height, width, channels]``."""
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                limit = Image.MAX_IMAGE_PIXELS
                if limit is not None and image.width * image.height > limit:
                    raise Image.DecompressionBombError(f"more than {limit} pixels")
                self._check_size(image, row)
                large = image.width * image.height > _LARGE
                with self._one_at_a_time if large else nullcontext():
                    image.load()
                    converted, white = _convert(image, self._layout.channels)
        except _DECODE_ERRORS as error:
            reason = shown(one_line(error)) or type(error).__name__
            if "cannot identify" in reason:
                reason = f"not one of {', '.join(FORMATS)}" if data else "the file is empty"
            raise DataError(
                f"{self._source.where(row)} can't be read as an image ({reason}): mend or remove it"
            ) from None
        values = np.asarray(self._fitted(converted, row), np.float32) / np.float32(white)
        # A plane of grey that had to pass as one channel serves every colour.
        values = np.broadcast_to(
            values.reshape(*values.shape[:2], -1), (*values.shape[:2], self._layout.channels)
        )
        return values[..., ::-1] if self._fit.channels == "bgr" else values

    def _fitted(self, image: Image.Image, row: int) -> Image.Image:
        try:
            return self._fit.apply(image, self._layout.height, self._layout.width)
        except DataError as error:
            raise DataError(f"{self._source.where(row)} {error}") from None

    def _check_size(self, image: Image.Image, row: int) -> None:
        """Raise DataError where a model that takes any size would be fed a huge sample."""
        wanted = (self._layout.height, self._layout.width)
        height, width = wanted[0] or image.height, wanted[1] or image.width
        shape = self._layout.sample_shape(height, width)
        check_sample(shape, wanted, self._source.where(row))


def _passed_over(image: Image.Image, channels: int) -> Iterator[str]:
    """Yield what is not looked at of an image, as torchvision and timm do not, either."""
    if image.getexif().get(_ORIENTATION, 1) != 1:
        yield "say that they are to be turned (EXIF), and are taken as they are stored"
    if getattr(image, "n_frames", 1) > 1:
        yield "have several frames, of which the first is taken"
    if channels in (1, 3) and image.has_transparency_data:
        yield "may be transparent, and are taken as if they were not"


def _convert(image: Image.Image, channels: int) -> tuple[Image.Image, float]:
    """The image with the model's channels, and the value of white in it."""
    if image.mode.startswith("I"):
        bits = max(getattr(image, "tag_v2", {}).get(_BITS, (16,)))
        if bits > 16:
            raise ValueError(
                f"its pixels are whole numbers of {bits} bits and of unknown range; save it with 8 "
                "or 16 bits"
            )
        # 16 bits of grey; an alpha channel could only be guessed.
        if channels in (2, 4):
            raise ValueError(f"16-bit grey, but the model takes {channels} channels")
        wide = image.convert("I")
        low, high = wide.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]
            raise ValueError(f"values {low} to {high} are outside 16-bit grey")
        return wide.convert("F"), 65535.0
    if image.mode == "F":
        raise ValueError("its pixels are floats of unknown range; save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    mode = _MODES[channels]
    return image if image.mode == mode else image.convert(mode), 255.0


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} pixels"
