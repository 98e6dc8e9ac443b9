"""From pixels to what the model takes: ``model_x = (pixel · scale − mean) / std``, by channel.

A pixel is on the [0, 1] scale, whatever the file stored. The same three numbers turn an attack's
budget, which is stated in pixels, into the model's own units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cloakify.errors import UsageError
from cloakify.numeric.arrays import floats

WHITE: dict[type[np.generic], int] = {np.uint8: 255, np.uint16: 65535, np.bool_: 1}
"""What a white pixel is in images of each type but floats."""


@dataclass(frozen=True)
class Preprocessing:
    """``model_x = (pixel · scale − mean) / std``.

    Attributes
    ----------
    scale
        What a white pixel becomes before ``mean`` and ``std``: 1, or 255 for a model that takes
        0–255.
    mean, std
        In scaled units; one number for every channel, or one per channel.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"--scale must be a positive number, not {self.scale:g}")
        if not self.mean or not all(map(math.isfinite, self.mean)):
            raise UsageError(f"--mean must be finite numbers, not {self.mean}")
        if not self.std or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise UsageError(f"--std must be positive numbers, not {self.std}")
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise UsageError(
                f"--mean has {len(self.mean)} numbers and --std has {len(self.std)}: "
                "give one number or one per channel"
            )

    @classmethod
    def parse(cls, scale: str = "1", mean: str = "0", std: str = "1") -> Preprocessing:
        """Read the three options as typed: numbers or fractions, separated by commas.

        Raises
        ------
        UsageError
            A part is no number, or the numbers make no preprocessing.

        Examples
        --------
        >>> Preprocessing.parse(mean="0.485,0.456,0.406", std="0.229,0.224,0.225").mean
        (0.485, 0.456, 0.406)
        """
        scales = _numbers("--scale", scale)
        if len(scales) != 1:
            raise UsageError(f"--scale takes one number, not {scale!r}")
        return cls(scales[0], _numbers("--mean", mean), _numbers("--std", std))

    def factor(self, channels: int | None = None) -> NDArray[np.float32]:
        """Model units per data unit, ``scale / std``; float32 ``[channels]``.

        Parameters
        ----------
        channels
            Number of channels of the model; 1 for an input that is no image. Left out: as many as
            ``mean`` and ``std`` have.
        """
        _, std = self._per_channel(channels)
        return np.asarray(np.float64(self.scale) / std, dtype=np.float32)

    def box(
        self, lo: float = 0.0, hi: float = 1.0, channels: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Bounds ``lo`` and ``hi`` (data units) in model units; two float32 ``[channels]``.

        They are computed exactly as samples are, so that a pixel at a bound lies on it to the bit.

        Raises
        ------
        UsageError
            ``lo`` is not below ``hi``, or there are not as many means as channels.
        """
        if not lo < hi:
            raise UsageError(f"the data range must be ascending, not [{lo:g}, {hi:g}]")
        mean, std = self._per_channel(channels)
        low, high = (
            _affine(np.full(mean.shape, v, np.float32), self.scale, mean, std) for v in (lo, hi)
        )
        return low, high

    def to_model(self, x: NDArray[np.generic], channel_axis: int | None) -> NDArray[np.float32]:
        """Turn pixels into what the model takes.

        Parameters
        ----------
        x
            Batch of images, any shape: uint8 on the 0–255 scale, uint16 on the 0–65535 scale, bool,
            of which True is white, or floats on the 0–1 scale.
        channel_axis
            Axis of ``x`` that holds the channels; ``None`` when there is none.

        Returns
        -------
        NDArray
            float32, the shape of ``x``.

        Raises
        ------
        TypeError
            It holds other numbers.
        """
        white = WHITE.get(x.dtype.type)
        if white is not None:
            pixels = x.astype(np.float32) / np.float32(white)
        elif x.dtype.kind == "f":
            pixels = floats(x)
        else:
            raise TypeError(f"pixels must be uint8, uint16, bool or floats, not {x.dtype}")
        mean, std = self._per_channel(1 if channel_axis is None else x.shape[channel_axis])
        if channel_axis is not None:
            shape = [1] * x.ndim
            shape[channel_axis] = -1
            mean, std = mean.reshape(shape), std.reshape(shape)
        return _affine(pixels, self.scale, mean, std)

    def check_channels(self, channels: int) -> None:
        """Raise UsageError unless ``mean`` and ``std`` fit a model of that many channels."""
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, channels):
                raise UsageError(
                    f"{option} has {len(values)} numbers but the model has {channels} "
                    f"channel{'s' * (channels != 1)}: give one number or one per channel"
                )

    def _per_channel(self, channels: int | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if channels is None:
            channels = max(len(self.mean), len(self.std))
        self.check_channels(channels)
        mean, std = (
            np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (self.mean, self.std)
        )
        return mean, std


def _affine(
    pixels: NDArray[np.float32],
    scale: float,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Compute in float32 and in this order, as torchvision's ``ToTensor`` and ``Normalize`` do."""
    scaled = pixels * np.float32(scale)
    shifted = scaled - mean.astype(np.float32)
    return np.asarray(shifted / std.astype(np.float32), dtype=np.float32)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    values = []
    for part in text.split(","):
        try:
            # Fraction also reads "1/255", "0.5" and "1e-3".
            values.append(float(Fraction(part.strip())))
        except (ValueError, ZeroDivisionError, OverflowError):
            raise UsageError(
                f"{option}: {part.strip()!r} in {text!r} is not a number; "
                "write numbers separated by commas"
            ) from None
    return tuple(values)
