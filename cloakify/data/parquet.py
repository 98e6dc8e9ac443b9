"""Parquet tables: images as the Hugging Face hub stores them, or numbers in lists.

Images are in a column ``image`` (or ``img``) of structs ``{bytes, path}`` or of plain bytes;
arrays in a column named as the model's input, or ``x``, as lists, nested as the sample's axes are.
Labels are whole numbers in ``y``, ``labels`` or ``label``. Several shards count as one source, in
the order of their names. Needs pyarrow (``pip install cloakify[parquet]``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_count
from cloakify.data.labels import LABEL_NAMES, label_name, labels_of_numbers
from cloakify.data.naming import shown, some
from cloakify.data.parquet_column import (
    ParquetColumn,
    broken,
    open_parquet_file,
    pyarrow_module,
    with_column,
)
from cloakify.data.source import EncodedSource, RowSource, Source
from cloakify.data.table import TableRows, label_column, table_of_columns
from cloakify.errors import DataError

_IMAGE_NAMES = ("image", "img", "pixel_values")
# What pandas calls the rows' own names.
_INDEX = "__index_level_"
# Columns of numbers that are held in memory together.
_LARGEST_TABLE = 1 << 32


def open_parquet(path: Path, files: list[Path], input_name: str, *, labelled: bool) -> Source:
    """Open parquet files as one source.

    Parameters
    ----------
    path
        What the user gave.
    files
        The shards, in order.
    input_name
        Name of the model's input.
    labelled
        Whether a column of labels is needed.

    Raises
    ------
    DataError
        A file is damaged, columns are missing or of no use, or pyarrow is not installed.
    """
    schema = open_parquet_file(files[0]).schema_arrow
    columns = list(schema.names)
    image = next((name for name in _IMAGE_NAMES if name in columns), None)
    x_name = next((name for name in (input_name, "x", image) if name in columns), None)
    if x_name is None and _is_table(schema):
        return _open_table(path, files, schema, labelled=labelled)
    if x_name is None:
        wanted = "'image' or 'x'"
        if input_name not in ("image", "x"):
            wanted += f", or {shown(input_name)!r} as the model does"
        raise DataError(f"{shown(files[0])} has columns {some(columns)}: name the samples {wanted}")
    table = ParquetColumn(files, x_name)
    check_count(len(table), str(path))
    labels, names = None, None
    if labelled:
        y_name = label_name(columns, x_name)
        if y_name is None:
            raise DataError(
                f"{shown(files[0])} has no column of labels ({some(columns)}): add 'label', or "
                "pass --labels model to take the model's own answers"
            )
        labels = _labels(files, y_name)
        names = _class_names(schema.metadata, y_name)
    if _is_list(schema.field(x_name).type):
        return ParquetRows(path, table, labels, names)
    return ParquetImages(path, table, labels, names)


def _is_table(schema: Any) -> bool:
    """Tell whether columns hold a number a row, as a DataFrame's do, but for the labels'."""
    types = pyarrow_module().types
    fields = [field for field in schema if not field.name.startswith(_INDEX)]
    plain = [field for field in fields if field.name.lower() not in LABEL_NAMES]
    return bool(plain) and all(
        types.is_integer(field.type)
        or types.is_floating(field.type)
        or types.is_boolean(field.type)
        for field in plain
    )


def _open_table(path: Path, files: list[Path], schema: Any, *, labelled: bool) -> TableRows:
    """Open columns of numbers, and one of labels, as a table."""
    names = [name for name in schema.names if not name.startswith(_INDEX)]
    label = names[label_column(names, path)] if labelled else None
    features = [name for name in names if name.lower() not in LABEL_NAMES]
    count = sum(open_parquet_file(file).metadata.num_rows for file in files)
    check_count(count, str(path))
    if 8 * count * len(features) > _LARGEST_TABLE:
        raise DataError(
            f"{shown(path)} holds {count} rows of {len(features)} numbers, more than fit in memory "
            "together: give a part of it"
        )
    texts = None
    wanted = list(features)
    if label is not None:
        if pyarrow_module().types.is_primitive(schema.field(label).type):
            wanted.append(label)
        else:
            column = ParquetColumn(files, label)
            texts = [_text(column, row) for row in range(len(column))]
    columns = {name: _column(files, name, "cells") for name in wanted}
    return table_of_columns(path, columns, texts, label)


def _text(column: ParquetColumn, row: int) -> str:
    value = column.value(row).as_py()
    return "" if value is None else str(value)


def _where(files: list[Path], name: str) -> str:
    return f"{shown(files[0])} column {shown(name)!r}"


def _column(files: list[Path], name: str, what: str) -> NDArray[np.generic]:
    """Return a column of numbers of all files; ``what`` its rows hold, as an error calls it."""
    where = _where(files, name)
    parts = [_read_column(file, name, where) for file in files]
    if any(part.null_count for part in parts):
        raise DataError(f"{where} has empty {what}: fill them in, or remove the rows")
    # An empty shard has no chunks, and its type would spoil that of the others.
    return np.concatenate([np.asarray(part.to_numpy()) for part in parts if len(part)])


class ParquetImages(EncodedSource):
    """Image files in a column."""

    def __init__(
        self,
        path: Path,
        column: ParquetColumn,
        labels: NDArray[np.int64] | None,
        class_names: tuple[str, ...] | None,
    ) -> None:
        super().__init__(path, labels, class_names)
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def where(self, row: int) -> str:
        return self._column.where(row)

    def key(self, row: int) -> str:
        return ""

    def read(self, row: int) -> bytes:
        value = self._column.value(row).as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise DataError(
                f"{self.where(row)} holds no image bytes: embed the images (datasets does so in "
                "to_parquet), or remove the row"
            )
        return data


class ParquetRows(RowSource):
    """Arrays in a column of lists."""

    def __init__(
        self,
        path: Path,
        column: ParquetColumn,
        labels: NDArray[np.int64] | None,
        class_names: tuple[str, ...] | None,
    ) -> None:
        super().__init__(path, labels, class_names)
        self._column = column
        self._first = self._row(0)

    def __len__(self) -> int:
        return len(self._column)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self._first.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._first.dtype

    def where(self, row: int) -> str:
        return self._column.where(row)

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
        while values is not None and not values.null_count and _is_list(values.type):
            lengths = set(compute.list_value_length(values).to_pylist())
            if len(lengths) != 1:
                raise DataError(f"{self.where(row)} holds lists of several lengths: mend the row")
            shape.append(lengths.pop())
            values = values.flatten()
        if values is None or values.null_count or 0 in shape:
            raise DataError(f"{self.where(row)} holds empty values: fill or remove the row")
        numbers = np.asarray(values.to_numpy(zero_copy_only=False))
        if numbers.dtype.kind not in "biuf":
            raise DataError(f"{self.where(row)} holds {values.type}, not numbers")
        return numbers.reshape(shape)


def _is_list(type_: Any) -> bool:
    types = pyarrow_module().types
    return bool(
        types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
    )


def _labels(files: list[Path], name: str) -> NDArray[np.int64]:
    return labels_of_numbers(_column(files, name, "labels"), _where(files, name))


def _read_column(file: Path, name: str, where: str) -> Any:
    pyarrow = pyarrow_module()
    opened = with_column(file, name)
    kind = opened.schema_arrow.field(name).type
    # Looked at first: numbers take the memory of their rows, anything else what it likes.
    if not pyarrow.types.is_primitive(kind):
        raise DataError(f"{where} holds {kind}, not whole numbers: store class indices as int64")
    try:
        return opened.read(columns=[name]).column(name)
    except (OSError, pyarrow.ArrowException) as error:
        raise broken(file, error) from None


def _class_names(metadata: dict[bytes, bytes] | None, column: str) -> tuple[str, ...] | None:
    """Names of the classes as ``datasets`` writes them into the schema, if it did."""
    try:
        described = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = described["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None
