"""Zip archives, as Kaggle and others hand out data: unpacked once, and read as the folder is.

They go into a temporary folder, which is removed with the last source that reads of it; several
that a pattern names go into one, as parts of one data set. A path may lead into an archive
(``archive.zip/train``), of which that part alone is unpacked, and into one in it.
"""

from __future__ import annotations

import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary, finalize

from cloakify.data.bounds import MOST_SAMPLES, check_regular, check_unpacked
from cloakify.data.idx import goes_with
from cloakify.data.naming import call, shown, some
from cloakify.data.packed_folders import is_hidden
from cloakify.data.room import amount, place_in, room_in
from cloakify.data.source import Source
from cloakify.errors import DataError
from cloakify.printable import one_line
from cloakify.settings.endings import ZIP, ending
from cloakify.temporary import own_folder, remove_folder

# Archives that are data nowhere but by themselves; tar files are shards.
_NESTED = (ZIP, ".rar", ".7z")
# Bytes that are unpacked at once.
_TOGETHER = 1 << 20


class _Unpacked:
    """A folder that an archive is unpacked to, removed when nobody reads of it any more."""

    def __init__(self) -> None:
        folder = own_folder()
        self.remove = finalize(self, remove_folder, folder)
        self.place = folder / "data"
        self.place.mkdir()
        self.note = ""


# By what the user gave, states of the files, and part: models that are compared read the same data.
_Key = tuple[Path, tuple[tuple[Path, int, int], ...], str]
_unpacked: WeakValueDictionary[_Key, _Unpacked] = WeakValueDictionary()


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
    for archive in archives:
        check_regular(archive)
    key = (path, tuple(map(_state, archives)), inside)
    known = _unpacked.get(key)
    found = known or _Unpacked()
    try:
        if known is None:
            call(found.place, shown(path))
            found.note = _unpack(path, archives, inside, found.place)
        source = open_folder(found.place / inside if inside else found.place)
    except BaseException:
        if known is None:
            found.remove()
        raise
    _unpacked[key] = found
    # So that it lives as long as what reads of it.
    finalize(source, _let_go, found)
    source.notes = (found.note, *source.notes)
    return source


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
    found = _Unpacked()
    try:
        call(found.place, shown(archive))
        _unpack(archive, [archive], inside, found.place)
        yield found.place / inside
    finally:
        found.remove()


def _let_go(_: _Unpacked) -> None:
    pass


def _state(path: Path) -> tuple[Path, int, int]:
    state = os.stat(path)
    return path.absolute(), state.st_size, state.st_mtime_ns


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
    free = room_in(folder)
    if size > free or count > MOST_SAMPLES:
        raise DataError(
            f"{shown(path)} unpacks to {count} files and {amount(size)}, more than the "
            f"{amount(free)} that go to {shown(folder.parents[1])}: unpack it yourself, and "
            "give the folder, or set TMPDIR elsewhere"
        )
    for each, members in chosen:
        with _reading(shown(each)), zipfile.ZipFile(each) as archive:
            for member in members:
                _write(archive, member, place_in(folder, member.filename, shown(each)), each)
    several = "" if len(archives) == 1 else f"{len(archives)} archives, "
    files = f"{count} file{'s' * (count != 1)}"
    return f"{shown(path)} was unpacked ({several}{files}, {amount(size)})"


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
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb") as file, archive.open(member) as packed:
            while data := packed.read(_TOGETHER):
                file.write(data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise DataError(
            f"{shown(path)} holds {shown(member.filename)}, which is there already: give each file "
            "once"
        ) from None


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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{where} can't be unpacked ({error.strerror}): unpack it yourself, and give the "
                "folder, or set TMPDIR elsewhere"
            ) from None
        raise DataError(
            f"{where} can't be unpacked ({shown(one_line(error)) or type(error).__name__}): copy "
            "or fetch it again"
        ) from None
