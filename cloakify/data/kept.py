"""Samples that can be had once only, kept in temporary files to be read again in any order.

The files have no names, and are gone with the process.
"""

from __future__ import annotations

import tempfile
import threading
from array import array
from collections.abc import Sequence
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
        self._file = _temporary_file()
        self._kind: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None
        self.count = 0

    def add(self, rows: AnyArray, where: str) -> None:
        """Keep a batch of rows."""
        kind = rows.shape[1:], rows.dtype
        self._kind = self._kind or kind
        if kind != self._kind:
            raise DataError(
                f"{where} holds {kind[1]} of shape {kind[0]}, those before {self._kind[1]} of "
                f"shape {self._kind[0]}: yield samples of one shape and type"
            )
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self.count += len(rows)

    def stored(self) -> StoredArray:
        """Return the array of all rows."""
        assert self._kind is not None
        self._file.flush()
        shape, dtype = self._kind
        return StoredArray(self._where, (self.count, *shape), dtype, self._file, 0, False)


class KeptImages:
    """Image files behind each other in a temporary file."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._file = _temporary_file()
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, data: bytes) -> None:
        """Keep a file."""
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def source(
        self, path: Path, labels: Labels | None, names: tuple[str, ...] | None
    ) -> EncodedSource:
        """Return all files as samples."""
        self._file.flush()
        return _YieldedImages(path, self._file, self._ends, labels, names)


class _YieldedImages(EncodedSource):
    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        ends: Sequence[int],
        labels: Labels | None,
        class_names: tuple[str, ...] | None,
    ) -> None:
        super().__init__(path, labels, class_names)
        self._file, self._ends, self._lock = file, ends, threading.Lock()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def where(self, row: int) -> str:
        return f"{shown(self.path)} sample {row}"

    def key(self, row: int) -> str:
        return ""

    def read(self, row: int) -> bytes:
        with self._lock:
            self._file.seek(self._ends[row])
            return self._file.read(self._ends[row + 1] - self._ends[row])


def _temporary_file() -> BinaryIO:
    return cast(BinaryIO, tempfile.TemporaryFile(prefix="cloakify-"))
