"""Columns of Parquet files, read a piece at a time and within bounds.

What a row group unpacks to is not bounded by its size in the file: a run of a million equal values
is stored as one. Needs pyarrow (``pip install cloakify[parquet]``).
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloakify.data.bounds import check_unpacked
from cloakify.data.columns import (
    ColumnFiles,
    is_numeric,
    pyarrow_module,
    stored,
    stored_schema,
    unlike,
)
from cloakify.data.naming import shown
from cloakify.errors import DataError

# Bytes that are unpacked at once.
_PIECE = 1 << 27

# Bytes of a value of each of parquet's fixed types, unpacked.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}

# Encodings by which values share bytes.
_SHARED = {"PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY"}


@dataclass(frozen=True)
class _Group:
    """A row group: which of a file's, where its rows begin, and how many are read at once."""

    file: Path
    number: int
    start: int
    file_start: int
    piece: int


class ParquetColumn:
    """One column of several files, of which one piece of a row group is held in memory.

    A group is read whole where it is small, else from its beginning on, a few rows at a time:
    rows should be asked for in ascending order.

    Raises
    ------
    DataError
        A file is damaged, lacks the column, or claims to unpack to more than arrays are packed to.
    """

    def __init__(self, files: list[Path], name: str) -> None:
        self._name = name
        self._groups: list[_Group] = []
        length = 0
        for file in files:
            metadata = open_parquet_file(file).metadata
            file_start = length
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                where = f"{shown(file)} row group {number}"
                piece = _rows_at_once(group, name, where)
                self._groups.append(_Group(file, number, length, file_start, piece))
                length += group.num_rows
        self._length = length
        self._starts = [group.start for group in self._groups]
        self._lock = threading.Lock()
        # The group that is being read, the rest of it, the piece at hand, and its first row.
        self._open: tuple[int, Iterator[Any]] | None = None
        self._piece: Any = ()
        self._first = 0

    def __len__(self) -> int:
        return self._length

    def where(self, row: int) -> str:
        """How messages name a row: by its number in its own file."""
        group = self._groups[self._group(row)]
        return f"{shown(group.file)} row {row - group.file_start}"

    def value(self, row: int) -> Any:
        """The pyarrow scalar in that row."""
        number = self._group(row)
        with self._lock:
            if self._open is None or self._open[0] != number or row < self._first:
                group = self._groups[number]
                # Let go of the old piece first: both together would double the memory.
                self._piece, self._first = (), group.start
                self._open = number, _pieces(group.file, self._name, group.number, group.piece)
            while row - self._first >= len(self._piece):
                self._first += len(self._piece)
                self._piece = ()
                try:
                    self._piece = next(self._open[1])
                except StopIteration:
                    self._open = None
                    raise DataError(f"{self.where(row)} is missing: write the file again") from None
            return self._piece[row - self._first]

    def _group(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1


def _rows_at_once(group: Any, name: str, where: str) -> int:
    """Return how many rows of a column in a row group may be unpacked together."""
    packed = unpacked = 0
    most = 1
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema != name and not chunk.path_in_schema.startswith(f"{name}."):
            continue
        width = _WIDTHS.get(chunk.physical_type)
        size = chunk.total_uncompressed_size if width is None else width * chunk.num_values
        packed += chunk.total_compressed_size
        unpacked += size
        # Of shared bytes each value may be as long as all that is stored of them.
        shared = width is None and not _SHARED.isdisjoint(chunk.encodings)
        most = max(most, size * group.num_rows if shared else size)
    check_unpacked(unpacked, packed, where)
    rows: int = group.num_rows
    return max(1, min(rows, rows * _PIECE // most))


def _pieces(file: Path, column: str, group: int, rows: int) -> Iterator[Any]:
    """Yield a column of a row group, so many rows at a time."""
    pyarrow = pyarrow_module()
    try:
        for batch in with_column(file, column).iter_batches(rows, [group], [column]):
            yield stored(batch.column(0))
    except (OSError, pyarrow.ArrowException) as error:
        raise broken(file, error) from None


def with_column(file: Path, column: str) -> Any:
    """Open a file that should have a column; DataError where it does not."""
    opened = open_parquet_file(file)
    if column not in opened.schema_arrow.names:
        raise DataError(f"{shown(file)} has no column {shown(column)!r} as the first file has")
    return opened


def open_parquet_file(file: Path) -> Any:
    """Open a file, a pyarrow.parquet.ParquetFile; DataError where it is none."""
    pyarrow = pyarrow_module()
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise broken(file, error) from None


def broken(file: Path, error: Exception) -> DataError:
    """Return the error for a file that pyarrow can't read."""
    reason = shown(" ".join(str(error).split()))
    return DataError(f"{shown(file)} can't be read as parquet ({reason}): write it again")


class ParquetFiles(ColumnFiles):
    """Parquet files as one table."""

    def _read_schema(self) -> Any:
        return stored_schema(open_parquet_file(self.files[0]).schema_arrow)

    def __len__(self) -> int:
        return sum(open_parquet_file(file).metadata.num_rows for file in self.files)

    def column(self, name: str) -> ParquetColumn:
        """See :meth:`ColumnFiles.column`."""
        return ParquetColumn(self.files, name)

    def parts(self, name: str) -> list[Any]:
        """See :meth:`ColumnFiles.parts`."""
        return [self._whole(file, name) for file in self.files]

    def _whole(self, file: Path, name: str) -> Any:
        pyarrow = pyarrow_module()
        opened = with_column(file, name)
        kind = stored_schema(opened.schema_arrow).field(name).type
        # Of each file: what is no number may unpack to whatever it likes.
        if not is_numeric(kind):
            raise unlike(file, name, kind, self.schema.field(name).type)
        try:
            return opened.read(columns=[name]).column(name)
        except (OSError, pyarrow.ArrowException) as error:
            raise broken(file, error) from None
