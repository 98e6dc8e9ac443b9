"""Rows of several files as those of one: ``part-*.npz``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.naming import shown
from cloakify.data.source import RowSource
from cloakify.errors import DataError
from cloakify.numeric.arrays import AnyArray, Indices, Labels


class ChainedRows(RowSource):
    """Rows of sources behind each other.

    Parameters
    ----------
    path
        What the user gave.
    parts
        At least one, all with labels or none.

    Raises
    ------
    DataError
        Their samples differ in shape or type, or one has names of classes and another has not.
    """

    def __init__(self, path: Path, parts: Sequence[RowSource]) -> None:
        first = parts[0]
        for part in parts:
            if (part.sample_shape, part.dtype) != (first.sample_shape, first.dtype):
                raise DataError(
                    f"{shown(part.path)} holds {part.dtype} of shape {part.sample_shape}, "
                    f"{shown(first.path)} {first.dtype} of shape {first.sample_shape}: give files "
                    "of one kind"
                )
        notes = dict.fromkeys(note for part in parts for note in part.notes)
        super().__init__(path, *_labels(parts), tuple(notes))
        self.is_text = any(part.is_text for part in parts)
        self._parts = list(parts)
        self._starts = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self._parts[0].sample_shape

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self._parts for file in part.files)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._parts[0].dtype

    def where(self, row: int) -> str:
        number = self._part_of(row)
        return self._parts[number].where(row - self._starts[number])

    def take(self, rows: Indices) -> AnyArray:
        taken = np.empty((len(rows), *self.sample_shape), self.dtype)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            here = numbers == number
            taken[here] = self._parts[number].take(rows[here] - self._starts[number])
        return taken

    def _part_of(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1


def _labels(parts: Sequence[RowSource]) -> tuple[Labels | None, tuple[str, ...] | None]:
    """Return the labels of all parts, and the names of all their classes, sorted."""
    labels = [part.labels for part in parts if part.labels is not None]
    if len(labels) < len(parts):
        return None, None
    named = [part.class_names for part in parts if part.class_names is not None]
    if not named:
        return np.concatenate(labels), None
    if len(named) < len(parts):
        bare = next(part for part in parts if part.class_names is None)
        raise DataError(
            f"{shown(bare.path)} has numbers for labels where other files have names: give all "
            "of them alike"
        )
    names = sorted({name for each in named for name in each})
    places = {name: place for place, name in enumerate(names)}
    tables: list[NDArray[np.int64]] = [
        np.array([places[name] for name in each], np.int64) for each in named
    ]
    return np.concatenate([t[y] for t, y in zip(tables, labels, strict=True)]), tuple(names)
