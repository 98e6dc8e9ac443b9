"""Parquet files, read a piece at a time and within bounds.

What a row group unpacks to is not bounded by its size in the file: a run of a million equal values
is stored as one. Needs pyarrow (``pip install cloakify[parquet]``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from cloakify.data.bounds import check_unpacked
from cloakify.data.column_types import name_is_no_text, pyarrow_module, stored, stored_schema
from cloakify.data.columns import ColumnFiles
from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.printable import one_line

# Bytes that are unpacked at once.
_PIECE = 1 << 27

# Bytes of a value of each of parquet's fixed types, unpacked.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}

# Encodings by which values share bytes.
_SHARED = {"PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY"}

# Bytes of footers, as stored, that are kept; unpacked they take some times as much.
_FOOTERS = 1 << 24


class ParquetFiles(ColumnFiles):
    """Parquet files as one table."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self._footers: dict[int, Any] = {}
        self._kept = 0
        super().__init__(path, files)

    def _schema(self, file: int) -> Any:
        return stored_schema(self._opened(file).schema_arrow, self.files[file])

    def _rows(self, file: int) -> list[int]:
        metadata = self._opened(file).metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def _read(self, file: int, span: int, names: Sequence[str]) -> Iterator[list[Any]]:
        pyarrow = pyarrow_module()
        path, opened = self.files[file], self._opened(file)
        group = opened.metadata.row_group(span)
        try:
            rows = _rows_at_once(group, names, f"{shown(path)} row group {span}")
        except UnicodeDecodeError:
            raise name_is_no_text(path) from None
        try:
            for batch in opened.iter_batches(rows, [span], list(names)):
                arrays = [stored(batch.column(name)) for name in names]
                for array in arrays:
                    # Whether text is text.
                    array.validate(full=True)
                yield arrays
        except (OSError, pyarrow.ArrowException) as error:
            raise _broken(path, error) from None

    def _opened(self, file: int) -> Any:
        """Open a file, a pyarrow.parquet.ParquetFile; its footer is read once as a rule."""
        pyarrow = pyarrow_module()
        path = self.files[file]
        try:
            opened = pyarrow.parquet.ParquetFile(path, metadata=self._footers.get(file))
        except (OSError, pyarrow.ArrowException) as error:
            raise _broken(path, error) from None
        except UnicodeDecodeError:
            raise name_is_no_text(path) from None
        if file not in self._footers and self._kept + opened.metadata.serialized_size <= _FOOTERS:
            self._kept += opened.metadata.serialized_size
            self._footers[file] = opened.metadata
        return opened


def _rows_at_once(group: Any, names: Collection[str], where: str) -> int:
    """Return how many rows of some columns in a row group may be unpacked together.

    Raises
    ------
    UnicodeDecodeError
        What the group calls a column, apart from the schema, is no text in UTF-8.
    """
    names = frozenset(names)
    most = 0
    for number in range(group.num_columns):
        chunk = group.column(number)
        if not _belongs(chunk.path_in_schema, names):
            continue
        width = _WIDTHS.get(chunk.physical_type)
        size = chunk.total_uncompressed_size if width is None else width * chunk.num_values
        check_unpacked(size, chunk.total_compressed_size, where)
        # Of shared bytes each value may be as long as all that is stored of them.
        shared = width is None and not _SHARED.isdisjoint(chunk.encodings)
        most += size * group.num_rows if shared else size
    rows: int = group.num_rows
    return max(1, min(rows, rows * _PIECE // max(1, most)))


def _belongs(path: str, names: Collection[str]) -> bool:
    """Tell whether a path in a schema, ``image.bytes``, is one of some columns or leads into it."""
    return path in names or any(
        path[:place] in names for place, sign in enumerate(path) if sign == "."
    )


def _broken(file: Path, error: Exception) -> DataError:
    """Return the error for a file that pyarrow can't read."""
    reason = shown(one_line(error))
    return DataError(f"{shown(file)} can't be read as parquet ({reason}): write it again")
