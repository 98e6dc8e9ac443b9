"""Archives that are unpacked once into a temporary folder, and read as the folder is.

It is removed with the last source that reads of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from weakref import WeakValueDictionary, finalize

from cloakify.data.bounds import MOST_SAMPLES, check_regular
from cloakify.data.naming import call, shown
from cloakify.data.room import amount, room_in
from cloakify.data.source import Source
from cloakify.errors import DataError
from cloakify.temporary import own_folder, remove_folder


class UnpackedFolder:
    """A folder that archives are unpacked to, removed when nobody reads of it any more."""

    def __init__(self) -> None:
        folder = own_folder()
        self.remove = finalize(self, remove_folder, folder)
        self.place = folder / "data"
        self.place.mkdir()
        self.note = ""


# By what the user gave, states of the files, and part: models that are compared read the same data.
_Key = tuple[Path, tuple[tuple[Path, int, int], ...], str]
_unpacked: WeakValueDictionary[_Key, UnpackedFolder] = WeakValueDictionary()


def open_unpacked(
    path: Path,
    archives: Sequence[Path],
    inside: str,
    unpack: Callable[[Path], str],
    open_folder: Callable[[Path], Source],
) -> Source:
    """Unpack archives into one folder, where they are not yet, and open what is in it.

    Parameters
    ----------
    path
        What the user gave.
    archives
        The archives.
    inside
        The folder or file in them that is meant; "" for all.
    unpack
        Puts their files into a folder, and returns what to say of it.
    open_folder
        Opens what was unpacked.

    Raises
    ------
    DataError
        As the two raise it.
    """
    for archive in archives:
        check_regular(archive)
    key = (path, tuple(map(_state, archives)), inside)
    known = _unpacked.get(key)
    folder = known or UnpackedFolder()
    try:
        if known is None:
            call(folder.place, shown(path))
            folder.note = unpack(folder.place)
        source = open_folder(folder.place / inside if inside else folder.place)
    except BaseException:
        if known is None:
            folder.remove()
        raise
    _unpacked[key] = folder
    # So that it lives as long as what reads of it.
    finalize(source, _let_go, folder)
    source.notes = (folder.note, *source.notes)
    return source


def check_room(path: Path, count: int, size: int, folder: Path) -> None:
    """Raise DataError where so many files or bytes do not go into a temporary folder."""
    free = room_in(folder)
    if size > free or count > MOST_SAMPLES:
        raise DataError(
            f"{shown(path)} unpacks to {count} files and {amount(size)}, more than the "
            f"{amount(free)} that go to {shown(folder.parents[1])}: unpack it yourself, and "
            "give the folder, or set TMPDIR elsewhere"
        )


def put(place: Path, pieces: Iterable[bytes], path: Path, name: str) -> None:
    """Write a member of an archive.

    Raises
    ------
    DataError
        There is a file of its name already.
    OSError
        It can't be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb") as file:
            file.writelines(pieces)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise DataError(
            f"{shown(path)} holds {shown(name)}, which is there already: give each file once"
        ) from None


def out_of_room(where: str, error: OSError) -> DataError | None:
    """Return the error for a disk that is full; ``None`` where it is something else."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return DataError(
        f"{where} can't be unpacked ({error.strerror}): unpack it yourself, and give the folder, "
        "or set TMPDIR elsewhere"
    )


def unpacked_note(path: Path, archives: int, count: int, size: int) -> str:
    """Say what was unpacked."""
    several = "" if archives == 1 else f"{archives} archives, "
    files = f"{count} file{'s' * (count != 1)}"
    return f"{shown(path)} was unpacked ({several}{files}, {amount(size)})"


def _let_go(_: UnpackedFolder) -> None:
    pass


def _state(path: Path) -> tuple[Path, int, int]:
    state = os.stat(path)
    return path.absolute(), state.st_size, state.st_mtime_ns
