"""Zip archives, as Kaggle and others hand out data: unpacked once, and read as the folder is.

Several that a pattern names go into one folder, as parts of one data set. A path may lead into an
archive (``archive.zip/train``), of which that part alone is unpacked, and into one in it.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cloakify.data.bounds import check_unpacked
from cloakify.data.idx import goes_with
from cloakify.data.naming import call, shown, some
from cloakify.data.packed_folders import is_hidden
from cloakify.data.room import place_in
from cloakify.data.source import Source
from cloakify.data.unpacked_folder import (
    UnpackedFolder,
    check_room,
    open_unpacked,
    out_of_room,
    put,
    unpacked_note,
)
from cloakify.errors import DataError
from cloakify.printable import one_line
from cloakify.settings.endings import ZIP, ending

# Archives that are data nowhere but by themselves; tar files are shards.
_NESTED = (ZIP, ".rar", ".7z")
# Bytes that are unpacked at once.
_TOGETHER = 1 << 20


def zip_at(path: Path) -> tuple[Path, str] | None:
    """Return the archive that a path leads to or into, and the folder in it; else ``None``."""
    for place in (path, *path.parents):
        if os.path.isdir(place):
            return None
        if os.path.isfile(place):
            inside = path.relative_to(place).as_posix()
            return (place, "" if inside == "." else inside) if is_zip(place) else None
    return None


def open_zips(
    path: Path, archives: Sequence[Path], inside: str, open_folder: Callable[[Path], Source]
) -> Source:
    """Unpack archives into one folder and open what is in it.

    Parameters
    ----------
    path
        What the user gave: the archive, or a pattern.
    archives
        The archives.
    inside
        The folder or file in them that is meant; "" for all.
    open_folder
        Opens what was unpacked.

    Raises
    ------
    DataError
        One is damaged, encrypted, or packed otherwise than is read; they hold links, archives, a
        name that leads elsewhere, one twice, or more than there is room for; there are no samples
        in them.
    """
    return open_unpacked(
        path,
        archives,
        inside,
        lambda folder: _unpack(path, archives, inside, folder),
        open_folder,
    )


def is_file(path: Path) -> bool:
    """Tell whether a path leads to a file, or into an archive."""
    return os.path.isfile(path) or zip_at(path) is not None


@contextmanager
def file_at(path: Path) -> Iterator[Path]:
    """Yield where a file is: where it lies in an archive it is unpacked, and removed behind.

    Raises
    ------
    DataError
        The archive holds no such file; or see :func:`open_zips`.
    """
    packed = None if os.path.isfile(path) else zip_at(path)
    if packed is None:
        yield path
        return
    archive, inside = packed
    folder = UnpackedFolder()
    try:
        call(folder.place, shown(archive))
        _unpack(archive, [archive], inside, folder.place)
        yield folder.place / inside
    finally:
        folder.remove()


def is_zip(path: Path) -> bool:
    """Tell whether a file is a zip archive: by its ending, or without one by its first bytes."""
    if path.suffix:
        return ending(path.name) == ZIP
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\3\4"
    except OSError:
        return False


def _unpack(path: Path, archives: Sequence[Path], inside: str, folder: Path) -> str:
    """Unpack the files of archives; return what to say of it."""
    size = count = 0
    chosen: list[tuple[Path, list[zipfile.ZipInfo]]] = []
    for each in archives:
        members = _chosen(each, inside)
        own = sum(member.file_size for member in members)
        check_unpacked(own, os.stat(each).st_size, shown(each))
        size, count = size + own, count + len(members)
        chosen.append((each, members))
    check_room(path, count, size, folder)
    for each, members in chosen:
        with _reading(shown(each)), zipfile.ZipFile(each) as archive:
            for member in members:
                _write(archive, member, place_in(folder, member.filename, shown(each)), each)
    return unpacked_note(path, len(archives), count, size)


def _chosen(path: Path, inside: str) -> list[zipfile.ZipInfo]:
    """Return the members of an archive that are to be unpacked."""
    where = shown(path)
    with _reading(where), zipfile.ZipFile(path) as archive:
        members = list(_files(archive, where))
    chosen = [each for each in members if _is_meant(each.filename, inside)]
    if not chosen:
        raise DataError(
            f"{where} holds no {shown(inside or 'file')}: it holds "
            f"{some(sorted({each.filename for each in members})) or 'nothing'}"
        )
    names = [each.filename for each in chosen]
    nested = sorted(name for name in names if name.lower().endswith(_NESTED))
    if nested and not _leads_to(nested[0], inside):
        raise DataError(
            f"{where} holds archives ({some(nested)}): name the one that is meant "
            f"({shown(path / nested[0])}), or unpack them, and give the folder"
        )
    return chosen


def _files(archive: zipfile.ZipFile, where: str) -> Iterator[zipfile.ZipInfo]:
    """Yield the members that are files, but for hidden ones."""
    for member in archive.infolist():
        # Its own way to tell folders takes no name without letters.
        is_folder = member.filename.endswith("/")
        name = member.filename = member.filename.removeprefix("./")
        # To lead elsewhere is not to be hidden: that is refused.
        if is_folder or (is_hidden(name) and ".." not in name.split("/")):
            continue
        shown_name = f"{where} member {shown(name)}"
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise DataError(f"{shown_name} is a link or no regular file: pack plain files")
        if member.flag_bits & 1:
            raise DataError(f"{shown_name} is encrypted: unpack it, and give the folder")
        yield member


def _is_meant(name: str, inside: str) -> bool:
    """Tell whether a member is to be unpacked: with images in IDX files their labels, too."""
    folder, _, last = inside.rpartition("/")
    beside, _, own = name.rpartition("/")
    if not inside or name.startswith(f"{inside}/") or _leads_to(name, inside):
        return True
    return folder == beside and goes_with(last, own)


def _leads_to(name: str, inside: str) -> bool:
    """Tell whether a member is what is meant, or an archive that a path leads into."""
    return inside == name or inside.startswith(f"{name}/")


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path, path: Path) -> None:
    with archive.open(member) as packed:
        put(place, iter(lambda: packed.read(_TOGETHER), b""), path, member.filename)


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Make one line of what zipfile raises of archives that are damaged."""
    try:
        yield
    except NotImplementedError as error:
        raise DataError(
            f"{where} is packed as is not read here ({shown(one_line(error))}): unpack it, and "
            "give the folder"
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        full = out_of_room(where, error) if isinstance(error, OSError) else None
        if full is not None:
            raise full from None
        raise DataError(
            f"{where} can't be unpacked ({shown(one_line(error)) or type(error).__name__}): copy "
            "or fetch it again"
        ) from None
