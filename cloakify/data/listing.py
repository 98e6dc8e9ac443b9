"""What lies in a folder; what is hidden, or left behind by unpacking an archive, is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cloakify.data.naming import shown
from cloakify.errors import DataError

HIDDEN = (".", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""What names begin with that nobody gave: hidden files, and what macOS adds to archives, Synology's
thumbnails, Windows and Linux to drives."""


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what lies in a folder, in no order; DataError where it can't be listed."""
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if not entry.name.startswith(HIDDEN):
                    yield entry
    except OSError as error:
        raise DataError(
            f"{shown(folder)} can't be listed ({error.strerror}): check the path and permissions"
        ) from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or leads to one; DataError where it can't be followed."""
    try:
        return entry.is_dir()
    except OSError as error:
        raise DataError(
            f"{shown(entry.path)} can't be followed ({error.strerror}): remove it"
        ) from None
