"""One array on disk, read a few rows at a time: a ``.npy`` file, or a member of a ``.npz``.

Nothing is ever unpickled. Rows are reached through a memory map that lives for one read only:
mapped pages count as the process's memory until they are unmapped, and memory must stay flat.
"""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from cloakify.data.bounds import check_unpacked
from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.printable import one_line

# NumPy reads the header as Python source: these come of text that is none, or none of its own.
_HEADER_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
)


# Arrays up to this many bytes are read through once when they are opened, to check their sum.
# Of larger ones --limit may ask for a few rows, and reading all would take minutes.
CHECKED = 1 << 30

# Bytes that are read at once.
_TOGETHER = 1 << 20


@dataclass(frozen=True)
class StoredArray:
    """Where an array lies.

    Attributes
    ----------
    where
        How messages name it.
    shape, dtype
        As stored.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    _file: Path | BinaryIO = field(repr=False)
    _offset: int = field(repr=False)
    _fortran: bool = field(repr=False)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Copy these rows into memory: ``[len(rows), …]``.

        Raises
        ------
        DataError
            As :meth:`mapped`.
        """
        return np.asarray(self.mapped())[rows]

    def mapped(self) -> NDArray[np.generic]:
        """Return the array as it lies on disk: what is looked at is read.

        Raises
        ------
        DataError
            The file is gone, or shorter than it was.
        """
        if math.prod(self.shape) == 0:
            return np.empty(self.shape, self.dtype)
        try:
            return np.memmap(
                self._file,
                dtype=self.dtype,
                mode="r",
                offset=self._offset,
                shape=self.shape,
                order="F" if self._fortran else "C",
            )
        except (OSError, ValueError) as error:
            raise _broken(self.where, error) from None


def open_npy(path: Path, *, texts: bool = False) -> StoredArray:
    """Read the header of a ``.npy`` file; ``texts`` tells whether it may hold text.

    Raises
    ------
    DataError
        It is no array, holds Python objects, or is shorter than its header says.
    """
    where = shown(path)
    try:
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(file, where, texts)
            offset = file.tell()
        size = path.stat().st_size
    except OSError as error:
        raise _broken(where, error) from None
    if size - offset != _bytes(shape, dtype):
        raise wrong_size(where, size - offset, shape, dtype)
    return StoredArray(where, shape, dtype, path, offset, fortran)


class NpzFile:
    """The arrays of a ``.npz`` file, by name.

    A member stored plainly is read in place, and up to a size once before to check its CRC-32. A
    compressed one can't be read from the middle, so it is unpacked once into a temporary file
    without a name, which is gone when the array is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {
                    info.filename.removesuffix(".npy"): info for info in archive.infolist()
                }
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise _broken(shown(path), error) from None

    def names(self) -> list[str]:
        """The arrays' names, as stored."""
        return list(self._members)

    def open(self, name: str, *, texts: bool = False) -> StoredArray:
        """Find one array; ``texts`` tells whether it may hold text in place of numbers.

        Raises
        ------
        DataError
            It is no array, holds Python objects, is damaged, encrypted, or does not fit on disk
            unpacked.
        """
        info = self._members[name]
        where = f"{shown(self._path)} array {shown(name)!r}"
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(info) as member:
                shape, fortran, dtype = _header(member, where, texts)
                header = member.tell()
                # Checked before anything is unpacked: a zip bomb announces itself here.
                if info.file_size - header != _bytes(shape, dtype):
                    raise wrong_size(where, info.file_size - header, shape, dtype)
                if info.compress_type == zipfile.ZIP_STORED:
                    if info.file_size <= CHECKED:
                        # The archive compares the sum when a member has been read to its end.
                        while member.read(_TOGETHER):
                            pass
                    offset = self._data_offset(info) + header
                    return StoredArray(where, shape, dtype, self._path, offset, fortran)
                if info.compress_type != zipfile.ZIP_DEFLATED:
                    raise ValueError("packed otherwise than numpy packs")
                check_unpacked(info.file_size, info.compress_size, where)
                unpacked = _unpack(member, info.file_size - header, where)
                return StoredArray(where, shape, dtype, unpacked, 0, fortran)
        except (
            OSError,
            EOFError,
            RuntimeError,
            ValueError,
            struct.error,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise _broken(where, error) from None

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin: behind its local header (APPNOTE.TXT 4.3.7)."""
        with open(self._path, "rb") as file:
            file.seek(info.header_offset)
            name_length, extra_length = struct.unpack("<26x2H", file.read(30))
        return int(info.header_offset + 30 + name_length + extra_length)


def _header(
    file: IO[bytes], where: str, texts: bool
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    try:
        version = npy_format.read_magic(file)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"format version {version[0]}.{version[1]}")
        shape, fortran, dtype = read(file)
        # To NumPy's check of the header, True is a whole number.
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"shape {shape}")
    except _HEADER_ERRORS as error:
        raise _broken(where, error) from None
    if dtype.hasobject:
        or_text = ", or as text (astype(str))" * texts
        raise DataError(
            f"{where} holds Python objects, which are never unpickled: save it as plain numbers"
            f"{or_text}"
        )
    if dtype.kind not in ("biufUS" if texts else "biuf"):
        raise DataError(f"{where} holds {dtype}: save it as plain numbers")
    if not shape:
        raise DataError(f"{where} is a single number: its first axis must count the samples")
    return shape, fortran, dtype


def _unpack(member: IO[bytes], size: int, where: str) -> BinaryIO:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{where} unpacks to {size / 1e9:.1f} GB but {shown(folder)} has {free / 1e9:.1f} GB "
            "free: set TMPDIR elsewhere, or save it with numpy.savez, uncompressed"
        )
    # Kept open as long as the array is in use.
    unpacked = tempfile.TemporaryFile(prefix="cloakify-")  # noqa: SIM115
    shutil.copyfileobj(member, unpacked, _TOGETHER)
    unpacked.flush()
    return unpacked


def _bytes(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    return math.prod(shape) * dtype.itemsize


def wrong_size(
    where: str, size: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> DataError:
    """Return the error for an array that is not as large as its header says."""
    return DataError(
        f"{where} should hold {_bytes(shape, dtype)} bytes for {dtype} {shape} but has {size}: "
        "it is damaged or cut short, save it again"
    )


def _broken(where: str, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or one_line(error)
    return DataError(
        f"{where} can't be read ({shown(reason) or type(error).__name__}): "
        "check the file, or save it again"
    )
