"""Columns of Arrow files: what ``save_to_disk`` of ``datasets`` writes, and Feather files.

A batch of rows is read at a time, and mapped rather than read where it is not compressed, so that
memory does not grow with the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cloakify.data.arrow_messages import BATCH, DICTIONARY, SCHEMA, Message, read_messages
from cloakify.data.bounds import check_unpacked
from cloakify.data.column_types import pyarrow_module, stored, stored_schema
from cloakify.data.columns import ColumnFiles
from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.printable import one_line

# Bytes that a file with categoricals may unpack to: such a file is read whole.
_LARGEST_WHOLE = 1 << 30


@dataclass(frozen=True)
class _File:
    """A file with its batches."""

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

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self._opened = [_open_file(file) for file in files]
        if any(batch.rows < 0 for file in self._opened for batch in file.batches):
            raise DataError(f"{shown(path)} claims batches of fewer than no rows: mend it")
        super().__init__(path, files)

    def _schema(self, file: int) -> Any:
        return stored_schema(self._opened[file].schema, self.files[file])

    def _rows(self, file: int) -> list[int]:
        return [batch.rows for batch in self._opened[file].batches]

    def _read(self, file: int, span: int, names: Sequence[str]) -> Iterator[list[Any]]:
        opened = self._opened[file]
        pyarrow = pyarrow_module()
        try:
            batch = opened.batch(span)
            arrays = [stored(batch.column(name)) for name in names]
            for array in arrays:
                array.validate(full=True)
        except (OSError, KeyError, IndexError, pyarrow.ArrowException) as error:
            raise _broken(opened.path, error) from None
        if any(len(array) != opened.batches[span].rows for array in arrays):
            raise DataError(f"{shown(opened.path)} lacks rows: copy or write it again")
        yield arrays


def _broken(file: Path, error: Exception) -> DataError:
    reason = shown(one_line(error))
    return DataError(
        f"{shown(file)} can't be read as an Arrow file ({reason}): copy or write it again"
    )
