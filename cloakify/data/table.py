"""Tables of numbers with a column of labels: CSV files, and the Parquet files of a DataFrame."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_count
from cloakify.data.labels import LABEL_NAMES, label_name, labels_of_texts
from cloakify.data.naming import shown, some
from cloakify.data.source import RowSource
from cloakify.data.text_errors import text_errors
from cloakify.errors import DataError
from cloakify.numeric.arrays import Doubles, Labels

# Bytes of a CSV file, and columns: text is read into memory.
_LARGEST, _MOST_COLUMNS = 1 << 31, 1 << 20


class TableRows(RowSource):
    """Rows of numbers at hand.

    Parameters
    ----------
    path
        The file.
    values
        float64 [n, D].
    labels, class_names
        See :class:`~cloakify.data.source.Source`.
    """

    def __init__(
        self,
        path: Path,
        values: Doubles,
        labels: Labels | None,
        class_names: tuple[str, ...] | None,
    ) -> None:
        check_count(len(values), str(path))
        super().__init__(path, labels, class_names)
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """See :attr:`RowSource.sample_shape`."""
        return self._values.shape[1:]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """float32: more digits are no use to a model that takes no doubles."""
        return np.dtype(np.float32)

    def where(self, row: int) -> str:
        """See :meth:`Source.where`."""
        return f"{shown(self.path)} row {row}"

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """See :meth:`RowSource.take`."""
        return self._values[rows].astype(np.float32)


def open_csv(path: Path, *, labelled: bool) -> TableRows:
    """Open a CSV file: a header, a column of labels by name, and numbers in all others.

    Raises
    ------
    DataError
        There is no header or no such column, a cell is no number, or rows differ in length.
    """
    header, rows = _read(path)
    label = label_name(header)
    if label is None and labelled:
        raise no_labels(path, header)
    features = [column for column in range(len(header)) if header[column] != label]
    if not features:
        raise DataError(f"{shown(path)} has no column but that of the labels: add the features")
    values = np.empty((len(rows), len(features)))
    for slot, column in enumerate(features):
        values[:, slot] = _numbers(path, header[column], [row[column] for row in rows])
    if not labelled:
        return TableRows(path, values, None, None)
    assert label is not None
    where, place = f"{shown(path)} column {shown(label)!r}", header.index(label)
    return TableRows(path, values, *labels_of_texts([row[place] for row in rows], where))


def no_labels(path: Path, names: Sequence[str]) -> DataError:
    """Return the error for a table none of whose columns goes by a name of labels."""
    wanted = ", ".join(map(repr, LABEL_NAMES))
    return DataError(
        f"{shown(path)} has no column of labels ({some([*names])}): call that of the labels one of "
        f"{wanted}, or pass --labels model to take the model's own answers"
    )


def table_of_columns(
    path: Path,
    columns: dict[str, NDArray[np.generic]],
    labels: tuple[Labels, tuple[str, ...] | None] | None,
) -> TableRows:
    """Make a table of columns of numbers [n] each, by name, and of labels with classes' names."""
    values = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
    return TableRows(path, values, *(labels or (None, None)))


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows, all as long as it."""
    if path.stat().st_size > _LARGEST:
        raise DataError(
            f"{shown(path)} is {path.stat().st_size / 1e9:.1f} GB large: give it as .parquet, or "
            "a part of it"
        )
    with text_errors(path), open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(_rows(path, file))
    if not rows:
        raise DataError(f"{shown(path)} is empty: give a header and at least one row")
    header, *values = rows
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{shown(path)} has two columns {shown(twice)!r}: rename one")
    return header, values


def _rows(path: Path, file: Iterator[str]) -> Iterator[list[str]]:
    width = None
    for number, row in enumerate(csv.reader(file)):
        if not row:
            continue
        width = len(row) if width is None else width
        if len(row) > _MOST_COLUMNS:
            raise DataError(f"{shown(path)} has {len(row)} columns: is it a table?")
        if len(row) != width:
            raise DataError(
                f"{shown(path)} line {number + 1} has {len(row)} cells, the header {width}: mend it"
            )
        yield row


def _numbers(path: Path, name: str, cells: list[str]) -> Doubles:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        row, cell = next((r, c) for r, c in enumerate(cells) if not _is_number(c))
        what = "is empty" if not cell.strip() else f"is {shown(cell)!r}, no number"
        raise DataError(
            f"{shown(path)} row {row} column {shown(name)!r} {what}: a model takes numbers; encode "
            "or fill it as the model was trained with, or leave the column out"
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
