"""Endings of the files that data are read from, in lower case."""

from __future__ import annotations

import os

IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pnm", ".pbm"),
)
"""Of images."""

ARRAYS = (".npz", ".npy")
"""Of arrays."""

TEXT_TABLES = (".csv", ".tsv", ".jsonl")
"""Of tables that are text."""

SHARDS = (".tar", ".parquet", ".arrow", ".feather")
"""Of files that may be several and count as one source."""

ALL = (*IMAGES, *ARRAYS, *TEXT_TABLES, *SHARDS)
"""Of all of these; no model has one."""


def is_image(name: str) -> bool:
    """Tell whether a file is taken for an image, by its ending."""
    return os.path.splitext(name)[1].lower() in IMAGES
