"""How much of what data claims to hold is believed: looked at before anything is allocated.

A file of a few kilobytes can claim terabytes: by a header, by compression, or by holes that a file
system stores as nothing. Bounds lie far above what calibration data hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.printable import shape_text

# Bytes of one image file, from which Pillow's 89 million pixels can be read unpacked.
LARGEST_FILE = 1 << 28

# Bytes of one sample where the model takes any size, 16 million numbers: several batches of them
# are under way at once.
LARGEST_SAMPLE = 1 << 26

# Samples in one source: three times ImageNet-21k. Each costs some tens of bytes of index.
MOST_SAMPLES = 1 << 25

# Bytes that a compressed array may unpack to, unless it is no more than so many times smaller.
# Real arrays shrink by ten at most, zeros by a thousand.
LARGEST_UNPACKED, MOST_SHRUNK = 1 << 30, 100


def check_regular(path: Path) -> None:
    """Raise DataError where a path leads to a device, a pipe or a socket: those never end."""
    if path.exists() and not path.is_file():
        raise DataError(f"{shown(path)} is no regular file: save the data to one")


def check_count(n: int, where: str) -> None:
    """Raise DataError when there are no samples, or more than anyone calibrates on."""
    if n < 1:
        raise DataError(f"{shown(where)} holds no samples: give at least one")
    if n > MOST_SAMPLES:
        raise DataError(
            f"{shown(where)} claims {n} samples, more than the {MOST_SAMPLES} that are read: "
            "give some of them"
        )


def check_file(size: int, where: str) -> None:
    """Raise DataError where an encoded image is larger than any is."""
    if size > LARGEST_FILE:
        raise DataError(
            f"{where} is {size / 1e9:.1f} GB large, and no image is larger than "
            f"{LARGEST_FILE / 1e9:.1f} GB: mend or remove it"
        )


def check_sample(shape: Sequence[int], wanted: Sequence[int | None], where: str) -> None:
    """Raise DataError where samples are huge and it is not the model that asks for their size.

    Parameters
    ----------
    shape
        Of one sample, as the model would take it.
    wanted
        Of one sample, as the model declares it.
    """
    size = 4 * math.prod(shape)
    if size > LARGEST_SAMPLE and None in wanted:
        raise DataError(
            f"{where} is {shape_text(shape)} numbers, more than the {LARGEST_SAMPLE >> 20} MiB "
            "that are fed to a model that takes any size: give smaller samples, or fix the model's "
            "input shape"
        )


def check_unpacked(size: int, packed: int, where: str) -> None:
    """Raise DataError where a compressed array claims to be more than arrays shrink to."""
    if size > LARGEST_UNPACKED and size > MOST_SHRUNK * packed:
        raise DataError(
            f"{where} claims to unpack from {packed} bytes to {size / 1e9:.1f} GB: store it "
            "uncompressed, if that is right"
        )
