"""Samples of several arrays: one for each input of the model, row by row.

The first array is that of the model's data input, which also brings the labels; the others go by
the names of their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cloakify.data.naming import shown, some
from cloakify.data.source import RowSource
from cloakify.errors import DataError

# What makes one array of a sample's inputs: by name, as the model takes them.
Pack = Callable[[Mapping[str, NDArray[np.generic]]], NDArray[np.float32]]


class JoinedSource(RowSource):
    """A source whose rows belong to rows of others.

    Its own samples are those of the first; the others are reached by :attr:`others`.
    """

    def __init__(self, first: RowSource, others: Mapping[str, RowSource]) -> None:
        super().__init__(first.path, first.labels, first.class_names, first.notes)
        self.others = others
        self._first = first

    def __len__(self) -> int:
        return len(self._first)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self._first.sample_shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._first.dtype

    def where(self, row: int) -> str:
        return self._first.where(row)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        return self._first.take(rows)

    def payloads(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
        sources = (self._first, *self.others.values())
        for parts in zip(*(source.payloads(rows) for source in sources), strict=True):
            yield "", b"".join(len(own).to_bytes(8, "little") + own for _, own in parts)


def with_others(
    first: RowSource,
    names: Sequence[str],
    there: Sequence[str],
    opened: Callable[[str], RowSource],
) -> RowSource:
    """Join the rows of the model's further inputs to those of its data input.

    Parameters
    ----------
    first
        Rows of the data input.
    names
        Names of the further inputs.
    there
        Names of what lies beside it.
    opened
        Opens one of these.

    Raises
    ------
    DataError
        One is missing, damaged, or of another length.
    """
    if not names:
        return first
    others: dict[str, RowSource] = {}
    for name in names:
        if name not in there:
            raise DataError(
                f"{shown(first.path)} holds {some(list(there))}, but the model also takes "
                f"{shown(name)!r}: add an array of that name with a row for each sample"
            )
        other = opened(name)
        if len(other) != len(first):
            raise DataError(
                f"{shown(first.path)} has {len(other)} rows of {shown(name)!r} but there are "
                f"{len(first)} samples: give one row for each"
            )
        others[name] = other
    return JoinedSource(first, others)


class _Column(RowSource):
    """One column of a table of numbers, as rows of one number."""

    def __init__(self, table: RowSource, place: int) -> None:
        super().__init__(table.path, table.labels, table.class_names, table.notes)
        self._table, self._place = table, place

    def __len__(self) -> int:
        return len(self._table)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (1,)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._table.dtype

    def where(self, row: int) -> str:
        return self._table.where(row)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        return self._table.take(rows)[:, self._place : self._place + 1]


def by_column(table: RowSource, columns: Sequence[str], inputs: Sequence[str]) -> RowSource:
    """Give each of several inputs its column of a table of numbers, where each is called as one.

    Parameters
    ----------
    table
        Rows of numbers.
    columns
        Their names.
    inputs
        Names of the data input and of the others.
    """
    if len(inputs) < 2 or list(columns) != list(inputs):
        return table
    rest = {name: _Column(table, place) for place, name in enumerate(inputs) if place}
    return JoinedSource(_Column(table, 0), rest)


class PackedFeed:
    """Loads all inputs of samples and makes one array of them.

    Parameters
    ----------
    load
        Returns the inputs of some rows, as the model takes them.
    pack
        Makes one array of them, [rows, …].
    sample_shape
        Of that array, without the first axis.
    """

    def __init__(
        self,
        load: Callable[[NDArray[np.int64]], Mapping[str, NDArray[np.generic]]],
        pack: Pack,
        sample_shape: tuple[int, ...],
    ) -> None:
        self._load = load
        self._pack = pack
        self.sample_shape = sample_shape

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Samples of these rows, packed."""
        return self._pack(self._load(rows))
