"""Tables that pyarrow reads: what Parquet and Arrow files have in common.

Rows lie in spans, a row group or a batch each. Of a span some rows are held at a time, of as many
columns as are asked for, so that memory grows with neither the files nor the number of their
columns.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cloakify.data.bounds import check_count
from cloakify.data.column_types import (
    kind_of,
    numbers_of,
    part_of,
    parts_of,
    pyarrow_module,
)
from cloakify.data.naming import shown
from cloakify.data.roles import Kind
from cloakify.errors import DataError
from cloakify.numeric.arrays import AnyArray, Indices


class Spans:
    """Which rows lie where.

    Parameters
    ----------
    rows
        Of each file the number of rows in each of its spans.

    Attributes
    ----------
    starts
        int64: the first row of each span.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        counts = np.array([count for each in rows for count in each], np.int64)
        of_files = np.array([len(each) for each in rows], np.int64)
        ends = np.cumsum(counts)
        self.starts: Indices = ends - counts
        self._rows_of_files = np.array([sum(each) for each in rows], np.int64)
        self._first_spans: Indices = np.cumsum(of_files) - of_files

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def rows(self) -> int:
        """Number of rows in all of them."""
        return int(self._rows_of_files.sum())

    def of(self, row: int) -> int:
        """Return the span of a row."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    @property
    def filled(self) -> list[int]:
        """The files that have rows."""
        return np.flatnonzero(self._rows_of_files).tolist()

    def place(self, span: int) -> tuple[int, int]:
        """Return the file of a span, and which of its spans it is."""
        file = int(np.searchsorted(self._first_spans, span, side="right")) - 1
        return file, span - int(self._first_spans[file])

    def in_file(self, row: int) -> tuple[int, int]:
        """Return the file of a row, and the row's number in it."""
        file, _ = self.place(self.of(row))
        return file, row - int(self.starts[self._first_spans[file]])


class ColumnFiles(ABC):
    """Files whose rows count as those of one table, in the files' order.

    Attributes
    ----------
    path
        What the user gave.
    files
        The files, at least one.
    first
        Of these the first with rows: in an empty one columns may have any type.
    schema
        That one's ``pyarrow.Schema``, its types as they are stored.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self.files = list(files)
        # Before anything of as many rows is read.
        check_count(len(self), str(path))
        first, _ = self.spans.in_file(0)
        self.first, self.schema = self.files[first], self._apart(first)
        self._places = parts_of(self._schema(first))

    @abstractmethod
    def _schema(self, file: int) -> Any:
        """Return the schema of a file, its types as they are stored."""

    @abstractmethod
    def _rows(self, file: int) -> list[int]:
        """Return the number of rows in each span of a file."""

    @abstractmethod
    def _read(self, file: int, span: int, names: Sequence[str]) -> Iterator[list[Any]]:
        """Yield the columns of a span of a file, some rows at a time.

        Raises
        ------
        DataError
            It is damaged, or claims to hold more than is read.
        """

    def _apart(self, file: int) -> Any:
        """Return the schema of a file, its structs taken apart; see :func:`parts_of`."""
        schema = self._schema(file)
        fields = []
        for name, (top, *inner) in parts_of(schema).items():
            # The first of two columns of one name; that there are two is told when one is read.
            field = schema.field(schema.names.index(top))
            for part in inner:
                field = field.type.field(part)
            fields.append(field.with_name(name))
        if len(set(schema.names)) < len(schema):
            return schema
        return pyarrow_module().schema(fields, schema.metadata)

    @cached_property
    def spans(self) -> Spans:
        """Where the rows lie."""
        return Spans([self._rows(file) for file in range(len(self.files))])

    def __len__(self) -> int:
        return self.spans.rows

    def column(self, name: str) -> Column:
        """Open a column, to be read a row at a time.

        Raises
        ------
        DataError
            A file lacks it, or has it of another kind than the first.
        """
        self._check([name])
        return Column(self, name)

    def pieces(self, names: Sequence[str]) -> Iterator[list[Any]]:
        """Yield pyarrow arrays of some columns, some rows of all of them at a time.

        Raises
        ------
        DataError
            As :meth:`column`; or a file is damaged, or claims to hold more than is read.
        """
        self._check(names)
        for span in range(len(self.spans)):
            yield from self.span(span, names)

    def span(self, span: int, names: Sequence[str]) -> Iterator[list[Any]]:
        """Yield some columns of a span, some rows at a time; see :meth:`pieces`."""
        places = [self._places.get(name, (name,)) for name in names]
        tops = list(dict.fromkeys(top for top, *_ in places))
        for arrays in self._read(*self.spans.place(span), tops):
            held = dict(zip(tops, arrays, strict=True))
            yield [part_of(held[top], tuple(inner)) for top, *inner in places]

    def where(self, name: str) -> str:
        """How messages name a column."""
        return f"{shown(self.first)} column {shown(name)!r}"

    def where_row(self, row: int) -> str:
        """How messages name a row: by its number in its own file."""
        file, own = self.spans.in_file(row)
        return f"{shown(self.files[file])} row {own}"

    def check_number(self, name: str, what: str) -> None:
        """Raise DataError where a column holds no numbers; ``what`` its rows are to hold."""
        type_ = self.schema.field(name).type
        if kind_of(type_) is not Kind.NUMBER:
            raise DataError(f"{self.where(name)} holds {type_}, not {what}")

    def numbers(self, names: Sequence[str], what: str) -> Iterator[list[AnyArray]]:
        """Yield columns of numbers as arrays, some rows of all of them at a time.

        Parameters
        ----------
        what
            Their rows hold, as an error calls it.

        Raises
        ------
        DataError
            As :meth:`pieces`; or there is none in some row.
        """
        start = 0
        for arrays in self.pieces(names):
            for name, array in zip(names, arrays, strict=True):
                if array.null_count:
                    row = start + array.is_null().index(True).as_py()
                    raise DataError(
                        f"{self.where_row(row)} column {shown(name)!r} is empty, where there are "
                        f"to be {what}: fill it in, or remove the row"
                    )
            start += len(arrays[0])
            if len(arrays[0]):
                plain = map(numbers_of, arrays)
                yield [np.asarray(each.to_numpy(zero_copy_only=False)) for each in plain]

    def _check(self, names: Sequence[str]) -> None:
        """Raise DataError unless each file has columns as the first has them."""
        for number in self.spans.filled:
            file, schema = self.files[number], self._apart(number)
            there = Counter(schema.names)
            places = parts_of(self._schema(number))
            for name in names:
                if places.get(name, (name,)) != self._places.get(name, (name,)):
                    raise DataError(
                        f"{shown(file)} has column {shown(name)!r} elsewhere than the first file: "
                        "write both alike"
                    )
                if there[name] != 1:
                    number_of = "two columns" if there[name] else "no column"
                    raise DataError(
                        f"{shown(file)} has {number_of} {shown(name)!r}: write it as the first file"
                    )
                own, first = schema.field(name).type, self.schema.field(name).type
                if own != first and kind_of(own) is not kind_of(first):
                    raise DataError(
                        f"{shown(file)} column {shown(name)!r} holds {own}, in the first file "
                        f"{first}: write both alike"
                    )


class Column:
    """One column, of which some rows of a span are held at a time.

    Rows should be asked for in ascending order: a span is read from its beginning on.
    """

    def __init__(self, files: ColumnFiles, name: str) -> None:
        self._files, self._name = files, name
        self._lock = threading.Lock()
        # The span that is being read, the rest of it, the piece at hand, and its first row.
        self._open: tuple[int, Iterator[list[Any]]] | None = None
        self._piece: Any = ()
        self._first = 0

    def __len__(self) -> int:
        return len(self._files)

    def where(self, row: int) -> str:
        """How messages name a row: by its number in its own file."""
        return self._files.where_row(row)

    def value(self, row: int) -> Any:
        """The pyarrow scalar in that row.

        Raises
        ------
        DataError
            The file holds fewer rows than it says, or is damaged.
        """
        spans = self._files.spans
        span = spans.of(row)
        with self._lock:
            if self._open is None or self._open[0] != span or row < self._first:
                # Let go of the old piece first: both together would double the memory.
                self._piece, self._first = (), int(spans.starts[span])
                self._open = span, self._files.span(span, [self._name])
            while row - self._first >= len(self._piece):
                self._first += len(self._piece)
                self._piece = ()
                try:
                    (self._piece,) = next(self._open[1])
                except StopIteration:
                    self._open = None
                    raise DataError(f"{self.where(row)} is missing: write the file again") from None
            return self._piece[row - self._first]
