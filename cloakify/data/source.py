"""Where samples come from: what every kind of source can do.

There are two kinds. An encoded source holds image files, which still have to be decoded, resized
and preprocessed; a row source holds arrays, which are taken as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.digest import row_payload

# Rows are hashed in pieces, so that memory stays flat.
_CHUNK_BYTES = 1 << 20


class Source(ABC):
    """Samples 0 … len−1 in a fixed order, read on demand.

    Attributes
    ----------
    path
        The file or folder.
    labels
        int64 ``[len]``, or ``None``.
    class_names
        Name of each class index, where the source has names.
    notes
        Lines worth telling the user: what was skipped, what may surprise.
    is_text
        Whether samples or labels were read from a file of text, which has an encoding.
    """

    is_text = False

    def __init__(
        self,
        path: Path,
        labels: NDArray[np.int64] | None,
        class_names: tuple[str, ...] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.labels = labels
        self.class_names = class_names
        self.notes = notes

    @property
    def files(self) -> tuple[Path, ...]:
        """The files or folders that it was opened of, where it is several behind each other."""
        return (self.path,)

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def where(self, row: int) -> str:
        """How an error message names a sample."""

    def names(self) -> Sequence[str] | None:
        """What each sample is called inside the source, without its ending; ``None`` for rows."""
        return None

    @abstractmethod
    def payloads(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
        """Key and payload of each sample, as `cloakify.data.digest` defines them."""


class EncodedSource(Source):
    """Samples that are image files."""

    def key(self, row: int) -> str:
        """The sample's name inside the source, which does not depend on where the source lies.

        "" where samples have none.
        """
        return ""

    @abstractmethod
    def read(self, row: int) -> bytes:
        """The image file's bytes. Safe to call from several threads.

        Raises
        ------
        DataError
            They can't be read.
        """

    def payloads(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
        # One by one: a list of them would take more than their array.
        for row in map(int, rows):
            yield self.key(row), self.read(row)


class RowSource(Source):
    """Samples that are rows of an array."""

    @property
    @abstractmethod
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one stored row."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[np.generic]:
        """Element type as stored."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """The rows as stored, a fresh ``[len(rows), …]``. Safe to call from several threads.

        Raises
        ------
        DataError
            They can't be read, or are not alike.
        """

    def payloads(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
        row_bytes = self.dtype.itemsize * int(np.prod(self.sample_shape))
        step = max(1, _CHUNK_BYTES // max(1, row_bytes))
        for start in range(0, len(rows), step):
            for row in self.take(rows[start : start + step]):
                yield "", row_payload(row)
