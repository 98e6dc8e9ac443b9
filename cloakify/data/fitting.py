"""Bring an image to the model's size, as the libraries do that models are trained with.

A pixel's place depends on how the longer side is rounded and where the centre is cut, so both are
those of torchvision 0.28 (`Resize`, `CenterCrop`; timm 1.0 uses them too) or of transformers 5
(`get_resize_output_image_size`, `center_crop`), by which the model's settings were written. All of
them resize with Pillow, antialiased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from cloakify.errors import DataError, UsageError

Resize = Literal["crop", "stretch", "pad", "refuse"]
"""What to do with an image whose size is not the model's.

``crop`` scales its shorter side and cuts out the centre; ``stretch`` scales both sides to fit;
``pad`` scales its longer side and fills up around it; ``refuse`` raises DataError.
"""

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Pillow's filters."""

Channels = Literal["rgb", "bgr"]
"""In which order the model takes colours."""

# Pixels that an image may be scaled to before its centre is cut out.
_LARGEST_RESIZED = 1 << 26


@dataclass(frozen=True)
class ImageFit:
    """How an image gets the model's size.

    Attributes
    ----------
    resize
        See :data:`Resize`.
    scaled
        To what the image is scaled before the model's size is cut out of it: the shorter side
        (``crop``), or both (``stretch``); ``None`` for the model's own size.
    crop_pct
        The model's size over that, in place of ``scaled``.
    interpolation
        See :data:`Interpolation`.
    cut
        How the place of the centre is rounded: to the nearest pixel, of two to the even one
        (torchvision), or ``down`` (transformers).
    fill
        Colour around a padded image, 0–255, for each channel or all.
    channels
        See :data:`Channels`.
    as_is
        Whether an image that has the model's size is taken as it is, though settings say to scale
        it and cut out its centre: attacked copies were cut before.
    """

    resize: Resize = "crop"
    scaled: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation = "bilinear"
    cut: Literal["nearest", "down"] = "nearest"
    fill: tuple[int, ...] = (0,)
    channels: Channels = "rgb"
    as_is: bool = False

    def does_as(self, other: ImageFit) -> bool:
        """Tell whether another does the same: what is cut or filled matters only where it is."""
        fits = [self, other]
        if self.resize != "crop" or self.scaled is self.crop_pct is None:
            fits = [replace(fit, cut="nearest") for fit in fits]
        if self.resize != "pad":
            fits = [replace(fit, fill=(0,)) for fit in fits]
        return fits[0] == fits[1]

    def __post_init__(self) -> None:
        """Check what an option may have set."""
        if self.crop_pct is not None and not 0 < self.crop_pct <= 2:
            raise UsageError(
                f"--crop-pct takes a number above 0 and up to 2, not {self.crop_pct:g}"
            )
        if self.scaled is not None and self.crop_pct is not None:
            raise UsageError("--resize-to and --crop-pct say the same thing: give one of them")

    def apply(self, image: Image.Image, height: int | None, width: int | None) -> Image.Image:
        """Return the image in the model's size.

        Parameters
        ----------
        height, width
            The model's; ``None`` where it takes any, which leaves the image's own.

        Raises
        ------
        DataError
            It has another size, and ``resize`` is ``refuse``; or it is too long and thin to cut.
        """
        free = height is None and width is None and self.scaled is None
        height = image.height if height is None else height
        width = image.width if width is None else width
        fits = (image.height, image.width) == (height, width)
        plain = self.as_is or (self.scaled is None and self.crop_pct in (None, 1))
        if free or (fits and plain):
            return image
        if self.resize == "refuse":
            if fits:
                return image
            raise DataError(
                f"is {image.width}×{image.height} pixels but the model takes {width}×{height}: "
                "resize the images, or let cloakify do it (--resize crop)"
            )
        if self.resize == "pad":
            return self._padded(image, height, width)
        between = self._covering(image, height, width)
        if math.prod(between) > _LARGEST_RESIZED:
            raise DataError(
                f"is {image.width}×{image.height} pixels, too long and thin to cut "
                f"{width}×{height} out of: remove it, or squeeze it (--resize stretch)"
            )
        return self._centre(self._resized(image, *between), height, width)

    def _covering(self, image: Image.Image, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that the image is scaled to."""
        sides = [self._before_cut(side) for side in (height, width)]
        if self.resize == "stretch":
            return sides[0], sides[1]
        if sides[0] == sides[1]:
            # Of a square, torchvision and transformers scale the shorter side.
            short, long = sorted((image.height, image.width))
            longer = int(sides[0] * long / short)
            return (sides[0], longer) if image.height <= image.width else (longer, sides[0])
        scale = max(sides[0] / image.height, sides[1] / image.width)
        return (
            max(sides[0], math.floor(image.height * scale + 0.5)),
            max(sides[1], math.floor(image.width * scale + 0.5)),
        )

    def _before_cut(self, side: int) -> int:
        if self.scaled is not None:
            return self.scaled
        return side if self.crop_pct is None else math.floor(side / self.crop_pct)

    def _resized(self, image: Image.Image, height: int, width: int) -> Image.Image:
        if (image.height, image.width) == (height, width):
            return image
        return image.resize((width, height), Image.Resampling[self.interpolation.upper()])

    def _centre(self, image: Image.Image, height: int, width: int) -> Image.Image:
        """Cut out the centre; where the image is smaller, black stands around it."""
        top, left = self._margin(image.height, height), self._margin(image.width, width)
        if (top, left) == (0, 0) and (image.height, image.width) == (height, width):
            return image
        return image.crop((left, top, left + width, top + height))

    def _margin(self, have: int, want: int) -> int:
        if have < want:
            return -((want - have) // 2)
        return (have - want) // 2 if self.cut == "down" else round((have - want) / 2)

    def _padded(self, image: Image.Image, height: int, width: int) -> Image.Image:
        """Scale the longer side to fit, and fill up (timm's ``border``)."""
        inner = [self._before_cut(side) for side in (height, width)]
        ratio = max(image.height / inner[0], image.width / inner[1])
        size = [max(1, round(side / ratio)) for side in (image.height, image.width)]
        scaled = self._resized(image, *size)
        fill = self.fill * len(image.getbands()) if len(self.fill) == 1 else self.fill
        canvas = Image.new(image.mode, (width, height), fill if len(fill) > 1 else fill[0])
        canvas.paste(scaled, (-self._margin(size[1], width), -self._margin(size[0], height)))
        return canvas
