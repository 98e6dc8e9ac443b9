"""How inputs are made, as a hardened file says it: the metadata entry ``cloakify.preprocessing``.

A file that is taken to another folder leaves behind what lay beside its source. The entry is JSON
without blanks, its keys in the order below, those with their defaults left out.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KEY = "preprocessing"
"""Of the entry, without cloakify's prefix."""

_Numbers = Annotated[tuple[float, ...], Meta(min_length=1, max_length=1 << 12)]
_Spreads = Annotated[
    tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1, max_length=1 << 12)
]
_Size = Annotated[int, Meta(ge=1, le=1 << 20)]
_Colour = Annotated[int, Meta(ge=0, le=255)]


class PreprocessingEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``model_x = (pixel · scale − mean) / std`` of images that are made the model's size.

    The fields are those of the options, and of :class:`cloakify.data.fitting.ImageFit`.
    """

    scale: Annotated[float, Meta(gt=0)] = 1.0
    mean: _Numbers = (0.0,)
    std: _Spreads = (1.0,)
    resize: Literal["crop", "stretch", "pad", "refuse"] = "crop"
    resize_to: _Size | None = None
    crop_pct: Annotated[float, Meta(gt=0, le=2)] | None = None
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = (
        "bilinear"
    )
    cut: Literal["nearest", "down"] = "nearest"
    fill: Annotated[tuple[_Colour, ...], Meta(min_length=1, max_length=4)] = (0,)
    channels: Literal["rgb", "bgr"] = "rgb"


def write_entry(entry: PreprocessingEntry) -> str | None:
    """Return the entry's text; ``None`` where it says nothing but the defaults."""
    plain = msgspec.structs.asdict(PreprocessingEntry())
    said = {
        name: value for name, value in msgspec.structs.asdict(entry).items() if value != plain[name]
    }
    return msgspec.json.encode(said).decode() if said else None


def read_entry(text: str) -> PreprocessingEntry | None:
    """Return what a text says, or ``None`` where cloakify never writes such a one."""
    try:
        entry = msgspec.json.decode(text, type=PreprocessingEntry)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return entry if write_entry(entry) == text else None
