"""Tar files that hold no images but files of samples, as CIFAR's archives: unpacked and read so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cloakify.data.archive import Archive, Reader, Store
from cloakify.data.naming import shown
from cloakify.data.packed_folders import is_hidden
from cloakify.data.room import place_in
from cloakify.data.source import Source
from cloakify.data.unpacked_folder import (
    check_room,
    open_unpacked,
    out_of_room,
    put,
    unpacked_note,
)
from cloakify.errors import DataError

# Bytes that are written at once.
_TOGETHER = 1 << 20


def open_tar_folder(path: Path, open_folder: Callable[[Path], Source]) -> Source:
    """Unpack a tar file, compressed or not, and open what is in it.

    Parameters
    ----------
    path
        The file.
    open_folder
        Opens what was unpacked.

    Raises
    ------
    DataError
        It is damaged; it holds links, a name that leads elsewhere, one twice, or more than there is
        room for; there are no samples in it.
    """
    return open_unpacked(path, [path], "", lambda folder: _unpack(path, folder), open_folder)


def _unpack(path: Path, folder: Path) -> str:
    archive = Archive(path, Store())
    members: list[tuple[str, int, int]] = []
    for info in archive.members():
        name = info.name.removeprefix("./")
        # To lead elsewhere is not to be hidden: that is refused.
        if info.isdir() or (is_hidden(name) and ".." not in name.split("/")):
            continue
        if not info.isreg() or info.issparse():
            raise DataError(
                f"{shown(path)} member {shown(name)} is a link or sparse: pack plain files"
            )
        members.append((name, info.offset_data, info.size))
    size = sum(own for _, _, own in members)
    check_room(path, len(members), size, folder)
    with archive.opened() as read:
        for name, offset, own in members:
            place = place_in(folder, name, shown(path))
            try:
                put(place, _pieces(read, offset, own), path, name)
            except OSError as error:
                full = out_of_room(shown(path), error)
                if full is None:
                    raise
                raise full from None
    return unpacked_note(path, 1, len(members), size)


def _pieces(read: Reader, offset: int, size: int) -> Iterator[bytes]:
    for start in range(offset, offset + size, _TOGETHER):
        yield read(start, min(_TOGETHER, offset + size - start))
