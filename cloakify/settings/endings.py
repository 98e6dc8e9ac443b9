"""Endings of the files that data are read from, in lower case."""

from __future__ import annotations

import os

IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pnm", ".pbm"),
)
"""Of images."""

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff")
"""Of sound, which is not decoded."""

ARRAYS = (".npz", ".npy")
"""Of arrays."""

LINES = (".jsonl", ".ndjson")
"""Of lines of JSON."""

TEXT_TABLES = (".csv", ".tsv", *LINES)
"""Of tables that are text."""

TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst")
"""Of archives of images."""

COLUMNS = (".parquet", ".arrow", ".feather")
"""Of tables in columns."""

SHARDS = (*TARS, *COLUMNS)
"""Of files that may be several and count as one source."""

ALL = (*IMAGES, *ARRAYS, *TEXT_TABLES, *SHARDS)
"""Of all of these; no model has one."""


def is_image(name: str) -> bool:
    """Tell whether a file is taken for an image, by its ending."""
    return os.path.splitext(name)[1].lower() in IMAGES


def ending(name: str) -> str:
    """Return a file's ending in lower case, both parts of one such as ``.tar.gz``."""
    lowered = name.lower()
    double = next((each for each in TARS if lowered.endswith(each)), None)
    return double or os.path.splitext(lowered)[1]
