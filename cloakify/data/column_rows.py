"""Samples in a column: image files, arrays as lists, or text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.column_types import is_list, numbers_of, pyarrow_module
from cloakify.data.columns import Column
from cloakify.data.source import EncodedSource, RowSource, Source
from cloakify.errors import DataError
from cloakify.numeric.arrays import Labels


class _InColumn(Source):
    """Samples that a column holds, one in each row."""

    def __init__(
        self,
        path: Path,
        column: Column,
        labels: Labels | None,
        class_names: tuple[str, ...] | None,
    ) -> None:
        super().__init__(path, labels, class_names)
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def where(self, row: int) -> str:
        return self._column.where(row)


class ColumnImages(_InColumn, EncodedSource):
    """Image files in a column, as structs ``{bytes, path}`` or as plain bytes."""

    def read(self, row: int) -> bytes:
        value = self._column.value(row).as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise DataError(
                f"{self.where(row)} holds no image bytes: embed the images (save_to_disk and "
                "push_to_hub of datasets do so, to_parquet does not), or remove the row"
            )
        return data


class ColumnRows(_InColumn, RowSource):
    """Arrays in a column of lists, one level of lists for each axis.

    Parameters
    ----------
    path, labels, class_names
        See :class:`~cloakify.data.source.Source`.
    column
        The arrays.
    length
        What lists of numbers are filled up to with zeros; ``None`` for none.
    """

    def __init__(
        self,
        path: Path,
        column: Column,
        labels: Labels | None,
        class_names: tuple[str, ...] | None,
        length: int | None = None,
    ) -> None:
        super().__init__(path, column, labels, class_names)
        self._length = length
        self._first = self._row(0)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self._first.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._first.dtype

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        taken = np.empty((len(rows), *self.sample_shape), self.dtype)
        for slot, row in enumerate(rows.tolist()):
            values = self._row(row)
            if values.shape != self.sample_shape:
                raise DataError(
                    f"{self.where(row)} has shape {values.shape} but the first row has "
                    f"{self.sample_shape}: make all rows one shape"
                )
            taken[slot] = values
        return taken

    def _row(self, row: int) -> NDArray[np.generic]:
        """Lists in lists → an array, one axis for each level."""
        compute = pyarrow_module().compute
        values = self._column.value(row).values
        shape = [0 if values is None else len(values)]
        while values is not None and not values.null_count and is_list(values.type):
            lengths = set(compute.list_value_length(values).to_pylist())
            if len(lengths) != 1:
                raise DataError(f"{self.where(row)} holds lists of several lengths: mend the row")
            shape.append(lengths.pop())
            values = values.flatten()
        if values is None or values.null_count or 0 in shape:
            raise DataError(f"{self.where(row)} holds empty values: fill or remove the row")
        numbers = np.asarray(numbers_of(values).to_numpy(zero_copy_only=False))
        if numbers.dtype.kind not in "biuf":
            raise DataError(f"{self.where(row)} holds {values.type}, not numbers: mend the row")
        if self._length is not None and len(shape) == 1:
            return np.pad(numbers, (0, max(0, self._length - len(numbers))))
        return numbers.reshape(shape)


class ColumnTexts:
    """A column of text."""

    def __init__(self, column: Column) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> str:
        value = self._column.value(row).as_py()
        if not isinstance(value, str):
            raise DataError(f"{self._column.where(row)} holds no text: fill or remove the row")
        return value
