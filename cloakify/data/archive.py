"""Tar files, read in place; compressed ones are unpacked once, into one temporary file.

What is compressed can't be read from the middle; see :mod:`cloakify.data.compressed`.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import IO, BinaryIO

from cloakify.data.compressed import TOGETHER, unpacked
from cloakify.data.kept import flush, temporary_file, write
from cloakify.data.naming import shown
from cloakify.errors import DataError

# Bytes of a member's name or attributes.
_LARGEST_HEADER = 1 << 20

# Zeros that tar may fill its last record up with: twenty blocks as a rule, more where somebody
# asked for it.
_PADDING = 1 << 20

Reader = Callable[[int, int], bytes]
"""Returns bytes of an archive: from where on, and how many."""


class Store:
    """What compressed archives unpack to, behind each other: a file for all of them."""

    @cached_property
    def file(self) -> BinaryIO:
        """The temporary file, made when it is first asked for."""
        return temporary_file()


class Archive:
    """A tar file.

    Parameters
    ----------
    path
        The file.
    store
        Where it is unpacked to if it is compressed.

    Raises
    ------
    DataError
        It can't be read, or unpacks to more than is believed.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.path, self._store = path, store
        # Where it begins in the store; None where it is read from its own file.
        self._begin = unpack(path, store)

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members, in the archive's order.

        No other archive may have been put into the store yet.

        Raises
        ------
        DataError
            It is damaged, no tar file, or compressed otherwise.
        """
        try:
            with self._headers() as file, tarfile.open(fileobj=file, mode="r:") as archive:
                for info in archive:
                    yield info
                    # Or it keeps a kilobyte for each.
                    archive.members.clear()  # type: ignore[attr-defined]
                self._check_end(file, archive.offset)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise DataError(
                f"{shown(self.path)} can't be read as a tar file ({shown(str(error))}): unpack it "
                "if it is compressed otherwise than by gzip, bzip2, xz or Zstandard, else pack it "
                "again"
            ) from None
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of a member; safe to call from several threads.

        Raises
        ------
        DataError
            There are not as many any more.
        """
        with self.opened() as read:
            return read(offset, size)

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Yield what reads bytes of members, as :meth:`read` does, with the file opened once.

        Raises
        ------
        DataError
            It can't be read.
        """
        try:
            if self._begin is not None:
                yield partial(self._read_at, self._store.file.fileno())
            else:
                with open(self.path, "rb") as file:
                    yield partial(self._read_at, file.fileno())
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def _read_at(self, file: int, offset: int, size: int) -> bytes:
        data = os.pread(file, size, offset)
        if len(data) != size:
            raise DataError(f"{shown(self.path)} is cut short: copy or pack it again")
        return data

    def _headers(self) -> _Headers:
        if self._begin is None:
            return _Headers(self.path, "r")
        headers = _Headers(self._store.file.fileno(), "r", closefd=False)
        headers.seek(self._begin)
        return headers

    def _check_end(self, file: IO[bytes], end: int) -> None:
        """Raise DataError unless an archive ends by a block of zeros, as tar ends one, and no more.

        Python's reader takes whatever it can't make sense of behind the first member for the end: a
        file that was cut off, a damaged header, and of two archives in a row the second.

        Parameters
        ----------
        end
            Where the reader stopped.
        """
        size = file.seek(0, io.SEEK_END)
        file.seek(end)
        rest = file.read(_PADDING)
        if len(rest) < tarfile.BLOCKSIZE or rest.count(0) != len(rest) or size - end > _PADDING:
            raise DataError(
                f"{shown(self.path)} is cut short, damaged, or holds more behind its end: "
                "copy or pack it again"
            )


class _Headers(io.FileIO):
    """A tar file of whose headers each is read as long as it is of a sane size.

    Long names and attributes are read whole, and are as long as their headers claim.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, or raise a TarError."""
        if size is not None and size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(-1 if size is None else size)


def unpack(path: Path, store: Store) -> int | None:
    """Unpack a file and return where it begins in the store; ``None`` if it is not compressed.

    Raises
    ------
    DataError
        It is damaged, or unpacks to more than is believed.
    """
    try:
        with unpacked(path) as file:
            if file is None:
                return None
            begin = store.file.seek(0, io.SEEK_END)
            while data := file.read(TOGETHER):
                write(store.file, data)
            flush(store.file)
            return begin
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{shown(path)} can't be read ({error.strerror}): check the file")
