"""Tables with a column of labels: CSV, lines of JSON, and the Parquet files of a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_count
from cloakify.data.cells import read_cells
from cloakify.data.folder import is_image
from cloakify.data.labels import LABEL_NAMES, label_name, labels_of_texts
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.data.source import RowSource, Source
from cloakify.data.text_source import TextSource, text_columns
from cloakify.errors import DataError
from cloakify.numeric.arrays import Doubles, Labels


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


def open_table(path: Path, request: Request) -> Source:
    """Open a table of text: a column of labels by name, and numbers in all others, or sentences.

    Raises
    ------
    DataError
        There is no header or no such column, a cell is no number where the model takes numbers, or
        rows differ in length.
    """
    cells = read_cells(path)
    label = request.label_of(cells.header, shown(path)) if request.labelled else None
    if request.labelled and label is None:
        raise no_labels(path, cells.header)
    labels: tuple[Labels | None, tuple[str, ...] | None] = (None, None)
    if label is not None:
        labels = labels_of_texts(cells.column(label), f"{shown(path)} column {shown(label)!r}")
    unlabelled = label_name(cells.header) if label is None else label
    features = [name for name in cells.header if name and name != unlabelled]
    if not features:
        raise DataError(f"{shown(path)} has no column but that of the labels: add the features")
    if request.ids:
        chosen = text_columns(features, features, shown(path))
        columns = [cells.column(name) for name in chosen]
        return TextSource(path, columns, *labels, lambda row: f"{shown(path)} row {row}")
    values = np.empty((len(cells.rows), len(features)))
    for slot, name in enumerate(features):
        values[:, slot] = _numbers(path, name, cells.column(name))
    source = TableRows(path, values, *labels)
    if len(features) < len(cells.header) - (unlabelled is not None):
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
    values = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
    return TableRows(path, values, *(labels or (None, None)))


def _numbers(path: Path, name: str, cells: list[str]) -> Doubles:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        row, cell = next((r, c) for r, c in enumerate(cells) if not _is_number(c))
        if is_image(cell):
            raise DataError(
                f"{shown(path)} row {row} column {shown(name)!r} is {shown(cell)!r}, the name of "
                f"an image: give the images' folder as data, and the file by --labels {shown(path)}"
            ) from None
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
