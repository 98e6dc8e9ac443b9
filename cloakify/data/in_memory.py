"""Samples that Python holds as a whole: what yields them one by one, or in batches.

Beside iterables there are

- a pair ``(x, y)`` of arrays, tensors, columns or lists, as scikit-learn and Keras take them;
- a mapping of such by their names, as an open ``.npz`` file is one;
- a DataFrame of pandas' or polars', or a table of pyarrow's, which is read as its Parquet file
  would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from weakref import finalize

import numpy as np

from cloakify.data.naming import call, shown, some
from cloakify.data.program import own_code
from cloakify.data.source import Source
from cloakify.data.split_names import SPLITS
from cloakify.errors import DataError
from cloakify.temporary import own_folder, remove_folder

# A pair of lists of two things each may as well be two samples with their labels.
_TWO = 2


def items_in(data: object, where: str, *, labelled: bool) -> Iterator[object]:
    """Yield samples or batches, as :mod:`cloakify.data.yielded` keeps them.

    Parameters
    ----------
    data
        Any of the above but DataFrames, an iterable, a reader with ``get_next``, or samples by
        their numbers.
    where
        What messages call it.
    labelled
        Whether labels are asked for.

    Raises
    ------
    DataError
        It is none of these.
    """
    if hasattr(data, "get_next"):
        while (item := data.get_next()) is not None:
            yield item
    elif isinstance(data, Mapping):
        yield from _of_columns(data, where)
    elif _is_pair(data, labelled):
        x, y = cast(tuple[Any, Any], data)
        if len(x) != len(y):
            raise DataError(f"{where} holds {len(x)} samples and {len(y)} labels: give as many")
        # A list may hold images or text, which come one by one.
        yield from zip(x, y, strict=True) if isinstance(x, list | tuple) else [(x, y)]
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        yield from data
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_text(data):
        for number in range(len(data)):
            yield data[number]
    else:
        raise _no_samples(data, where)


def is_frame(data: object) -> bool:
    """Tell whether something is a DataFrame, of pandas' or polars', or a table of pyarrow's."""
    makes = ("write_parquet", "to_parquet", "__arrow_c_stream__")
    return hasattr(data, "columns") and any(hasattr(data, name) for name in makes)


def open_frame(data: object, where: str, open_file: Callable[[Path], Source]) -> Source:
    """Open a DataFrame as the Parquet file that it would be saved as.

    Parameters
    ----------
    data
        See :func:`is_frame`.
    where
        What messages call it.
    open_file
        Opens the file, which is there as long as the source.

    Raises
    ------
    DataError
        It can't be saved so; or as ``open_file`` raises it.
    """
    folder = own_folder()
    try:
        file = folder / "data.parquet"
        call(file, where)
        frame: Any = data
        with own_code(where):
            if hasattr(frame, "write_parquet"):
                frame.write_parquet(file)
            elif hasattr(frame, "to_parquet"):
                # Parquet's columns have texts for names, and an index would be one more of them.
                frame.rename(columns=str).to_parquet(file, index=False)
            else:
                import pyarrow
                import pyarrow.parquet

                pyarrow.parquet.write_table(pyarrow.table(frame), file)
        source = open_file(file)
    except BaseException:
        remove_folder(folder)
        raise
    finalize(source, remove_folder, folder)
    return source


def _of_columns(data: Mapping[Any, Any], where: str) -> Iterator[object]:
    """Yield a mapping of arrays as one batch, and one of lists row by row."""
    columns = {str(name): data[name] for name in data}
    if not columns:
        return
    if {name.lower() for name in columns} <= set(SPLITS):
        raise DataError(f"{where} holds {some(list(columns))}: give one of them")
    if not all(_is_column(column) for column in columns.values()):
        raise _no_samples(data, where)
    counts = {len(column) for column in columns.values()}
    if len(counts) > 1:
        told = [f"{len(column)} of {shown(name)}" for name, column in columns.items()]
        raise DataError(f"{where} holds {some(told)}: give as many of all")
    if all(_is_array(column) for column in columns.values()):
        yield columns
        return
    for number in range(counts.pop()):
        yield {name: column[number] for name, column in columns.items()}


def _no_samples(data: object, where: str) -> DataError:
    return DataError(
        f"{where} gives no samples but {type(data).__name__}: give a pair of arrays (x, y), an "
        "iterable of such pairs, or a CalibrationDataReader"
    )


def _is_pair(data: object, labelled: bool) -> bool:
    """Tell whether something is all samples beside all labels, and no two samples."""
    if not isinstance(data, tuple | list) or len(data) != _TWO:
        return False
    x, y = data
    if isinstance(x, list | tuple):
        # Lists of as many: of two it can't be told.
        is_list = isinstance(y, list | tuple) or _is_array(y)
        return is_list and len(x) == len(y) != _TWO and all(np.ndim(label) < 2 for label in y)
    if not _is_array(x) or not (_is_array(y) or isinstance(y, list)):
        return False
    shape, of_labels = np.shape(x), np.shape(y)
    same = shape == of_labels
    return len(shape) > 1 and 0 < len(of_labels) <= _TWO and (labelled or not same)


def _is_column(value: object) -> bool:
    return _is_array(value) or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def _is_array(value: object) -> bool:
    """Tell whether something is an array, a tensor or a column, of one axis at least."""
    return len(getattr(value, "shape", ())) > 0


def _is_text(value: object) -> bool:
    return isinstance(value, str | bytes)
