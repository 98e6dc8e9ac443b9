"""Tables with a column of labels: CSV, lines of JSON, and the Parquet files of a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_count
from cloakify.data.cells import stream_cells
from cloakify.data.folder import is_image
from cloakify.data.labels import (
    LABEL_NAMES,
    label_name,
    labels_of_columns,
    labels_of_texts,
    numbered_labels,
)
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.data.source import RowSource, Source
from cloakify.data.text_source import TextSource, text_columns
from cloakify.errors import DataError
from cloakify.numeric.arrays import Array, Labels

# Different texts of a column that are told from new ones: labels are no more.
_MOST_HELD = 1 << 14


class TableRows(RowSource):
    """Rows of numbers at hand.

    Parameters
    ----------
    path
        The file.
    values
        float32 [n, D].
    labels, class_names
        See :class:`~cloakify.data.source.Source`.
    """

    def __init__(
        self,
        path: Path,
        values: Array,
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
        return self._values[rows]


class _Texts:
    """A column of text, of which what stands there often is held once."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self._known: dict[str, str] = {}

    def add(self, cells: Sequence[str]) -> None:
        """Take some rows more."""
        known = self._known if len(self._known) <= _MOST_HELD else {}
        self.rows += [known.setdefault(cell, cell) for cell in cells]


def open_table(path: Path, request: Request) -> Source:
    """Open a table of text: a column of labels by name, and numbers in all others, or sentences.

    Raises
    ------
    DataError
        There is no header or no such column, a cell is no number where the model takes numbers, or
        rows differ in length.
    """
    header, chunks = stream_cells(path)
    label = request.label_of(header, shown(path)) if request.labelled else None
    several = numbered_labels(header) if label is None else []
    if request.labelled and label is None and not several:
        raise no_labels(path, header)
    unlabelled = label_name(header) if label is None else label
    features = [name for name in header if name and name not in (unlabelled, *several)]
    if not features:
        raise DataError(f"{shown(path)} has no column but that of the labels: add the features")
    of_text = text_columns(features, features, shown(path)) if request.ids else []
    several = several if request.labelled else []
    texts = {name: _Texts() for name in (*of_text, label, *several) if name is not None}
    numbers: list[Array] = [np.empty((0, len(features)), np.float32)]
    start = 0
    for rows in chunks:
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        for name, column in texts.items():
            column.add(columns[name])
        if not request.ids:
            numbers.append(_numbers(path, {name: columns[name] for name in features}, start))
        start += len(rows)
    labels: tuple[Labels | None, tuple[str, ...] | None] = (None, None)
    if label is not None:
        labels = labels_of_texts(texts[label].rows, f"{shown(path)} column {shown(label)!r}")
    elif several:
        columns_of = [texts[name].rows for name in several]
        labels = labels_of_columns(columns_of, f"{shown(path)} columns {some(several)}"), None
    if request.ids:
        of_rows = [texts[name].rows for name in of_text]
        return TextSource(path, of_rows, *labels, lambda row: f"{shown(path)} row {row}")
    source = TableRows(path, np.concatenate(numbers), *labels)
    if any(not name for name in header):
        source.notes = (f"{shown(path)}: the column without a name is left out",)
    return source


def no_labels(path: Path, names: Sequence[str]) -> DataError:
    """Return the error for a table none of whose columns goes by a name of labels."""
    wanted = ", ".join(map(repr, LABEL_NAMES))
    return DataError(
        f"{shown(path)} has no column of labels ({some([*names])}): call that of the labels one of "
        f"{wanted}, name it by --labels COLUMN, or pass --labels model to take the model's own "
        "answers"
    )


def table_of_columns(
    path: Path,
    columns: dict[str, NDArray[np.generic]],
    labels: tuple[Labels, tuple[str, ...] | None] | None,
) -> TableRows:
    """Make a table of columns of numbers [n] each, by name, and of labels with classes' names."""
    with np.errstate(over="ignore"):
        values = np.stack([column.astype(np.float32) for column in columns.values()], axis=1)
    return TableRows(path, values, *(labels or (None, None)))


def _numbers(path: Path, columns: dict[str, tuple[str, ...]], start: int) -> Array:
    """Return some rows of numbers, float32 [n, D]; ``start`` is the first one's number."""
    values = np.empty((len(next(iter(columns.values()))), len(columns)), np.float32)
    for slot, (name, cells) in enumerate(columns.items()):
        try:
            # As doubles first: text is rounded once.
            with np.errstate(over="ignore"):
                values[:, slot] = np.array([float(cell) for cell in cells])
        except ValueError:
            raise _no_number(path, name, cells, start) from None
    return values


def _no_number(path: Path, name: str, cells: Sequence[str], start: int) -> DataError:
    """Return the error for a column that holds something else somewhere."""
    row, cell = next((r, c) for r, c in enumerate(cells, start) if not _is_number(c))
    where = f"{shown(path)} row {row} column {shown(name)!r}"
    if is_image(cell):
        return DataError(
            f"{where} is {shown(cell)!r}, the name of an image: give the images' folder as data, "
            f"and the file by --labels {shown(path)}"
        )
    what = "is empty" if not cell.strip() else f"is {shown(cell)!r}, no number"
    return DataError(
        f"{where} {what}: a model takes numbers; encode or fill it as the model was trained with, "
        "or leave the column out"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
