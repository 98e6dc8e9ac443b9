"""Samples that can be had once only, or only in order, kept in temporary files to be read again.

The files have no names, and are gone with the process.
"""

from __future__ import annotations

import tempfile
import threading
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from cloakify.data.naming import shown
from cloakify.data.npy import StoredArray
from cloakify.data.source import EncodedSource
from cloakify.errors import DataError
from cloakify.numeric.arrays import AnyArray, Labels


class KeptRows:
    """Rows of one shape in a temporary file."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._file = temporary_file()
        self._kind: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None
        self.count = 0

    def add(self, rows: AnyArray, where: str) -> None:
        """Keep a batch of rows.

        Raises
        ------
        DataError
            They differ in shape or type from those before, or there is no room.
        """
        kind = rows.shape[1:], rows.dtype
        self._kind = self._kind or kind
        if kind != self._kind:
            raise DataError(
                f"{where} holds {kind[1]} of shape {kind[0]}, those before {self._kind[1]} of "
                f"shape {self._kind[0]}: yield samples of one shape and type"
            )
        write(self._file, np.ascontiguousarray(rows).data)
        self.count += len(rows)

    def stored(self) -> StoredArray:
        """Return the array of all rows."""
        assert self._kind is not None
        flush(self._file)
        shape, dtype = self._kind
        return StoredArray(self._where, (self.count, *shape), dtype, self._file, 0, False)


class _Pieces:
    """Bytes of unequal length behind each other in a temporary file."""

    def __init__(self) -> None:
        self._file = temporary_file()
        self._ends = array("q", [0])
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, data: bytes) -> None:
        """Keep some."""
        write(self._file, data)
        self._ends.append(self._ends[-1] + len(data))

    def read(self, row: int) -> bytes:
        """Return those that were kept as the row-th; safe to call from several threads.

        To seek is to write what is not written yet, for which there may be no room.
        """
        with self._lock, _room():
            self._file.seek(self._ends[row])
            return self._file.read(self._ends[row + 1] - self._ends[row])


class KeptTexts(_Pieces):
    """Texts behind each other in a temporary file; see :class:`cloakify.data.text_source.Texts`."""

    def __getitem__(self, row: int) -> str:
        return self.read(row).decode("utf-8", "surrogatepass")

    def extend(self, texts: Iterable[str]) -> None:
        """Keep some texts more."""
        for text in texts:
            self.add(text.encode("utf-8", "surrogatepass"))


class KeptImages(_Pieces):
    """Image files behind each other in a temporary file."""

    def source(
        self, path: Path, labels: Labels | None, names: tuple[str, ...] | None
    ) -> EncodedSource:
        """Return all files as samples."""
        flush(self._file)
        return _YieldedImages(path, self, labels, names)


class _YieldedImages(EncodedSource):
    def __init__(
        self,
        path: Path,
        pieces: _Pieces,
        labels: Labels | None,
        class_names: tuple[str, ...] | None,
    ) -> None:
        super().__init__(path, labels, class_names)
        self._pieces = pieces

    def __len__(self) -> int:
        return len(self._pieces)

    def where(self, row: int) -> str:
        return f"{shown(self.path)} sample {row}"

    def read(self, row: int) -> bytes:
        return self._pieces.read(row)


def temporary_file() -> BinaryIO:
    """Return a file without a name; DataError where there is no room for one."""
    with _room():
        return cast(BinaryIO, tempfile.TemporaryFile(prefix="cloakify-"))


def write(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write to such a file; DataError where there is no room."""
    with _room():
        file.write(data)


def flush(file: BinaryIO) -> None:
    """Have all written that is on its way to such a file; DataError where there is no room."""
    with _room():
        file.flush()


@contextmanager
def _room() -> Iterator[None]:
    """Raise DataError where samples can't be kept."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"samples can't be kept in {shown(tempfile.gettempdir())} ({error.strerror}): set "
            "TMPDIR to a folder with more room"
        ) from None
