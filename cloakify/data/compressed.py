"""Compressed files as streams of what is in them: gzip, bzip2, xz, and Zstandard by pyarrow.

Which of them it is the first bytes tell, whatever a file is called. Some of it is unpacked at a
time, and what it unpacks to is bounded (:func:`~cloakify.data.bounds.check_unpacked`).
"""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from cloakify.data.bounds import check_unpacked
from cloakify.data.column_types import pyarrow_module
from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.printable import one_line

if TYPE_CHECKING:
    from lzma import LZMADecompressor

# Bytes that are unpacked at once.
TOGETHER = 1 << 20

# Bytes that unpacking xz may hold: twice what its strongest preset takes.
_XZ_MEMORY = 1 << 27

_GZIP, _XZ, _ZSTANDARD = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
# "BZh" begins words, too: behind it and a digit stand digits of π, or those of its root at the end.
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", re.DOTALL)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Xz:
    """What xz has compressed, by one decompressor after the other, of bounded memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpacking = _xz_stream()
        self._waiting = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if self._unpacking.eof:
                # Zeros may stand behind a stream, and then another one.
                rest = self._unpacking.unused_data or self._file.read(TOGETHER)
                while rest and not (rest := rest.lstrip(b"\0")):
                    rest = self._file.read(TOGETHER)
                if not rest:
                    return b""
                self._unpacking, self._waiting = _xz_stream(), rest
            if self._unpacking.needs_input and not self._waiting:
                self._waiting = self._file.read(TOGETHER)
                if not self._waiting:
                    raise EOFError("it ends before its end is marked")
            waiting, self._waiting = self._waiting, b""
            data = _decompressed(self._unpacking, waiting, size)
            if data:
                return data


def _decompressed(unpacking: LZMADecompressor, packed: bytes, size: int) -> bytes:
    """Go on unpacking; ValueError where that can't be."""
    from lzma import LZMAError

    try:
        return unpacking.decompress(packed, size)
    except LZMAError as error:
        raise ValueError(str(error)) from None


def _xz_stream() -> LZMADecompressor:
    from lzma import FORMAT_XZ, LZMADecompressor

    return LZMADecompressor(FORMAT_XZ, _XZ_MEMORY)


class _Bounded(io.RawIOBase):
    """A stream that is unpacked as it is read, and no further than is believed.

    Parameters
    ----------
    unpacking
        Gives the bytes.
    packed
        How many they are compressed.
    path
        The file.
    """

    def __init__(self, unpacking: _Readable, packed: int, path: Path) -> None:
        self._unpacking, self._packed, self._path, self._size = unpacking, packed, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; DataError where the file is damaged, or is more than is believed."""
        with _unpacking(self._path):
            data = self._unpacking.read(len(buffer))
        self._size += len(data)
        check_unpacked(self._size, self._packed, shown(self._path))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO | None]:
    """Open what a file unpacks to; ``None`` where it is not compressed.

    Reading it raises DataError where the file is damaged or cut short, or unpacks to more than is
    believed.

    Raises
    ------
    DataError
        It takes pyarrow, which is not installed.
    OSError
        It can't be read.
    """
    with open(path, "rb") as file:
        start = file.read(10)
        file.seek(0)
        try:
            with _unpacking(path):
                reader = _reader(file, start)
        except ModuleNotFoundError as error:
            # Python can be built without the libraries for bzip2 and xz.
            raise DataError(
                f"{shown(path)} can't be unpacked, as this Python was built without {error.name}: "
                "unpack it yourself, or compress it by gzip"
            ) from None
        if reader is None:
            yield None
        else:
            packed = os.fstat(file.fileno()).st_size
            yield io.BufferedReader(_Bounded(reader, packed, path), TOGETHER)


def _reader(file: BinaryIO, start: bytes) -> _Readable | None:
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if _BZIP2.match(start):
        from bz2 import BZ2File

        return BZ2File(file)
    if start.startswith(_XZ):
        return _Xz(file)
    if start.startswith(_ZSTANDARD):
        pyarrow = pyarrow_module()
        stream: _Readable = pyarrow.CompressedInputStream(pyarrow.PythonFile(file), "zstd")
        return stream
    return None


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    """Make one line of what is raised of compressed files that are damaged."""
    try:
        yield
    except (EOFError, zlib.error, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        # Those of gzip, bzip2 and pyarrow have no number.
        reason = shown(one_line(error))
        raise DataError(
            f"{shown(path)} can't be unpacked ({reason}): copy or pack it again"
        ) from None
