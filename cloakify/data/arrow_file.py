"""Columns of Arrow files: what ``save_to_disk`` of ``datasets`` writes, and Feather files.

A batch of rows is read at a time, and mapped rather than read where it is not compressed, so that
memory does not grow with the files.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cloakify.data.arrow_messages import BATCH, DICTIONARY, SCHEMA, Message, read_messages
from cloakify.data.bounds import check_unpacked
from cloakify.data.columns import ColumnFiles, pyarrow_module, stored, stored_schema, unlike
from cloakify.data.naming import shown
from cloakify.errors import DataError

# Bytes that a file with categoricals may unpack to: such a file is read whole.
_LARGEST_WHOLE = 1 << 30


@dataclass(frozen=True)
class _File:
    """A file with its batches; ``schema`` with the types as they are stored."""

    path: Path
    schema: Any
    batches: tuple[Message, ...]
    unpacked: int
    has_dictionaries: bool

    def batch(self, number: int) -> Any:
        """Read a batch, and check that its parts lie where they say."""
        if self.has_dictionaries:
            return self._all[number]
        with pyarrow_module().memory_map(str(self.path)) as source:
            source.seek(self.batches[number].offset)
            ipc = pyarrow_module().ipc
            return ipc.read_record_batch(ipc.read_message(source), self.schema)

    @cached_property
    def _all(self) -> list[Any]:
        if self.unpacked > _LARGEST_WHOLE:
            raise DataError(
                f"{shown(self.path)} holds {self.unpacked / 1e9:.1f} GB with categorical columns, "
                "which are read whole: write it as Parquet, or without categoricals"
            )
        with pyarrow_module().memory_map(str(self.path)) as source:
            # Of a file its stream, which is all that was looked at; the index is not.
            source.seek(8 if source.read(6) == b"ARROW1" else 0)
            return list(pyarrow_module().ipc.open_stream(source))


def _open_file(path: Path) -> _File:
    messages = read_messages(path)
    if not messages or messages[0].kind != SCHEMA:
        raise DataError(f"{shown(path)} holds no columns: write it again")
    for number, message in enumerate(messages):
        check_unpacked(message.unpacked, message.packed, f"{shown(path)} message {number}")
    pyarrow = pyarrow_module()
    try:
        with pyarrow.memory_map(str(path)) as source:
            source.seek(messages[0].offset)
            schema = pyarrow.ipc.read_schema(source)
    except (OSError, pyarrow.ArrowException) as error:
        raise _broken(path, error) from None
    return _File(
        path,
        schema,
        tuple(message for message in messages if message.kind == BATCH),
        sum(message.unpacked for message in messages),
        any(message.kind == DICTIONARY for message in messages),
    )


class ArrowFiles(ColumnFiles):
    """Arrow files as one table."""

    def _read_schema(self) -> Any:
        self._opened = [_open_file(file) for file in self.files]
        if any(batch.rows < 0 for file in self._opened for batch in file.batches):
            raise DataError(f"{shown(self.path)} claims batches of fewer than no rows: mend it")
        return stored_schema(self._opened[0].schema)

    def __len__(self) -> int:
        return sum(batch.rows for file in self._opened for batch in file.batches)

    def column(self, name: str) -> ArrowColumn:
        """See :meth:`ColumnFiles.column`."""
        return ArrowColumn(self._opened, name)

    def parts(self, name: str) -> list[Any]:
        """See :meth:`ColumnFiles.parts`."""
        column = self.column(name)
        return [column.piece(number) for number in range(column.pieces)]


class ArrowColumn:
    """One column of several files, of which a batch is held at a time.

    Raises
    ------
    DataError
        A file lacks the column, or has it of another type than the first.
    """

    def __init__(self, files: list[_File], name: str) -> None:
        self._name = name
        self._pieces: list[tuple[_File, int, int, int]] = []
        first = stored_schema(files[0].schema).field(name).type
        length = 0
        for file in files:
            if name not in file.schema.names:
                raise DataError(
                    f"{shown(file.path)} has no column {shown(name)!r} as the first file has"
                )
            kind = stored_schema(file.schema).field(name).type
            if kind != first:
                raise unlike(file.path, name, kind, first)
            start = length
            for number, batch in enumerate(file.batches):
                self._pieces.append((file, number, length, start))
                length += batch.rows
        self._length = length
        self._starts = [first_row for _, _, first_row, _ in self._pieces]
        self._lock = threading.Lock()
        self._held: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return self._length

    @property
    def pieces(self) -> int:
        """Number of batches in all files."""
        return len(self._pieces)

    def where(self, row: int) -> str:
        """See :meth:`~cloakify.data.columns.Column.where`."""
        file, _, _, start = self._pieces[self._piece_of(row)]
        return f"{shown(file.path)} row {row - start}"

    def value(self, row: int) -> Any:
        """See :meth:`~cloakify.data.columns.Column.value`."""
        number = self._piece_of(row)
        with self._lock:
            if self._held is None or self._held[0] != number:
                self._held = None
                self._held = number, self.piece(number)
            return self._held[1][row - self._starts[number]]

    def piece(self, number: int) -> Any:
        """Read a batch's part of the column, a pyarrow array, checked.

        Raises
        ------
        DataError
            It is damaged.
        """
        file, batch, _, _ = self._pieces[number]
        pyarrow = pyarrow_module()
        try:
            array = stored(file.batch(batch).column(self._name))
            array.validate(full=True)
        except (OSError, KeyError, IndexError, pyarrow.ArrowException) as error:
            raise _broken(file.path, error) from None
        if len(array) != file.batches[batch].rows:
            raise DataError(f"{shown(file.path)} lacks rows: copy or write it again")
        return array

    def _piece_of(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1


def _broken(file: Path, error: Exception) -> DataError:
    reason = shown(" ".join(str(error).split()))
    return DataError(
        f"{shown(file)} can't be read as an Arrow file ({reason}): copy or write it again"
    )
