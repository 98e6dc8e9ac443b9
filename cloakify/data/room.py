"""Files that are fetched or unpacked into a folder: whether there is room, and where each goes."""

from __future__ import annotations

import shutil
from pathlib import Path

from cloakify.data.naming import shown
from cloakify.errors import DataError

# Bytes put into a folder at most, and those that are left free on its disk.
LARGEST, LEFT_FREE = 1 << 36, 1 << 28


def amount(size: int) -> str:
    """Write a number of bytes as people read it: ``1.5 GB``."""
    for unit, bytes_of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_of:
            return f"{size / bytes_of:.1f} {unit}"
    return f"{size} bytes"


def place_in(folder: Path, place: str, source: str) -> Path:
    """Return where a file goes.

    Raises
    ------
    DataError
        Its name is none, or leads elsewhere.
    """
    parts = place.split("/")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
        raise DataError(
            f"{source} holds a file called {shown(place)!r}, which is no name for a file: rename it"
        )
    return folder.joinpath(*parts)


def room_in(folder: Path) -> int:
    """Return how many bytes may be put into a folder."""
    return max(0, min(LARGEST, shutil.disk_usage(folder).free - LEFT_FREE))
