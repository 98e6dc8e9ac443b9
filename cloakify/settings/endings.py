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

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Of what is compressed, behind the ending of what it unpacks to."""

PLAIN_TABLES = (".csv", ".tsv", *LINES)
"""Of tables that are text, as they unpack."""

TEXT_TABLES = (
    *PLAIN_TABLES,
    *(f"{each}{packed}" for each in PLAIN_TABLES for packed in COMPRESSED),
)
"""Of tables that are text."""

TARS = (".tar", *(f".tar{packed}" for packed in COMPRESSED), ".tgz", ".tbz2", ".txz")
"""Of archives of images."""

COLUMNS = (".parquet", ".arrow", ".feather")
"""Of tables in columns."""

SHARDS = (*TARS, *COLUMNS)
"""Of files that may be several and count as one source."""

TABLES = (*TEXT_TABLES, ".npz")
"""Of files of rows, which a folder may hold beside nothing else."""

ZIP = ".zip"
"""Of archives that hold any of these."""

ALL = (*IMAGES, *ARRAYS, *TEXT_TABLES, *SHARDS, ZIP, *COMPRESSED)
"""Of all of these; no model has one."""

_DOUBLE = tuple(each for each in ALL if each.count(".") > 1)


def is_image(name: str) -> bool:
    """Tell whether a file is taken for an image, by its ending."""
    return os.path.splitext(name)[1].lower() in IMAGES


def ending(name: str) -> str:
    """Return a file's ending in lower case, both parts of one such as ``.tar.gz``."""
    lowered = name.lower()
    double = next((each for each in _DOUBLE if lowered.endswith(each)), None)
    return double or os.path.splitext(lowered)[1]


def unpacked_ending(name: str) -> str:
    """Return the ending in lower case of what a file unpacks to: ``.csv`` of ``a.csv.gz``."""
    stem, kind = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] if kind in COMPRESSED else kind
