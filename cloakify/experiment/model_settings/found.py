"""What comes with a model of how its inputs are made: one form for whatever said it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloakify.data.fitting import Channels, Interpolation, Resize


@dataclass(frozen=True)
class FoundSettings:
    """What one source says; ``None`` where it says nothing.

    Attributes
    ----------
    source
        Whence: the name of a file or preset, or what in the graph.
    scale, mean, std
        As :class:`~cloakify.data.Preprocessing`.
    resize, resize_to, crop_pct, interpolation, cut, fill, channels
        As :class:`~cloakify.data.fitting.ImageFit`.
    size
        Height and width that it makes of an image.
    """

    source: str
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: Resize | None = None
    resize_to: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    cut: Literal["nearest", "down"] | None = None
    fill: tuple[int, ...] | None = None
    channels: Channels | None = None
    size: tuple[int, int] | None = None


# Pillow's filters by the numbers that configurations use for them.
RESAMPLING: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
