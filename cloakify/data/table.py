"""Tables of text: CSV, and lines of JSON.

A column of labels goes by its name; the samples are the numbers in all others, or sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from cloakify.data.array_files import ArraySource
from cloakify.data.bounds import check_count
from cloakify.data.cells import numbers_in, stream_columns
from cloakify.data.joined import by_column
from cloakify.data.kept import KeptRows, KeptTexts
from cloakify.data.label_columns import LabelTexts, flags_in
from cloakify.data.labels import number_of
from cloakify.data.naming import shown
from cloakify.data.request import Request
from cloakify.data.roles import Kind, Roles, assign
from cloakify.data.source import Source
from cloakify.data.text_source import TextSource
from cloakify.errors import DataError
from cloakify.numeric.arrays import AnyArray, Array, Doubles, Labels
from cloakify.settings.endings import is_image

# Some rows of a table: the cells of each column, by its name.
_Rows = Mapping[str, Sequence[str]]


def open_table(path: Path, request: Request) -> Source:
    """Open a table of text.

    Raises
    ------
    DataError
        There is no header or no such column, a cell is no number where the model takes numbers, or
        rows differ in length.
    """
    header, parts = stream_columns(path, request.encoding, apart=True)
    first = next(parts, None) or dict.fromkeys(header, ())
    kinds = {name: _kind(first[name]) for name in header}
    roles = assign(kinds, request, path, are_flags=partial(flags_in, first))
    whole = chain([first], parts)
    # Or it would be held until all others are read.
    del first
    if roles.kind is Kind.TEXT:
        source: Source = _read_texts(path, roles, whole)
    else:
        source = by_column(_read_numbers(path, roles, whole), roles.samples, request.inputs)
    source.notes, source.is_text = roles.notes, True
    return source


def table_of_numbers(
    path: Path,
    rows: Iterator[Sequence[AnyArray]],
    labels: tuple[Labels | None, tuple[str, ...] | None],
) -> ArraySource:
    """Keep a table of numbers, float32: more digits are no use to a model that takes no doubles.

    Parameters
    ----------
    path
        What the user gave.
    rows
        Some rows after the other, an array [n] for each column.
    labels
        The labels, and the names of their classes.
    """
    kept = KeptRows(shown(path))
    for columns in rows:
        kept.add(np.stack([_single(column) for column in columns], axis=1), shown(path))
    check_count(kept.count, str(path))
    return ArraySource(path, kept.stored(), *labels)


def _kind(cells: Sequence[str]) -> Kind:
    """Return what a column seems to hold, by its first cells."""
    if all(map(_may_be_number, cells)):
        return Kind.NUMBER
    return Kind.LIST if all(_list_in(cell) is not None for cell in cells) else Kind.TEXT


def _may_be_number(cell: str) -> bool:
    return not cell.strip() or _is_number(cell)


def _read_numbers(path: Path, roles: Roles, parts: Iterator[_Rows]) -> ArraySource:
    labels = LabelTexts(roles.labels)
    width: int | None = None

    def rows() -> Iterator[Sequence[AnyArray]]:
        nonlocal width
        start = 0
        for part in parts:
            if count := len(part[roles.samples[0]]):
                labels.extend(part)
                if roles.kind is Kind.LIST:
                    (name,) = roles.samples
                    lists = _lists(path, name, part[name], start, width)
                    width = lists.shape[1]
                    yield list(lists.T)
                else:
                    yield [_numbers(path, name, part[name], start) for name in roles.samples]
            start += count

    source = table_of_numbers(path, rows(), (None, None))
    source.labels, source.class_names = labels.read(shown(path))
    return source


def _lists(path: Path, name: str, cells: Sequence[str], start: int, width: int | None) -> Doubles:
    """Return some rows of a column of lists, [n, width]; ``start`` is the first one's number."""
    lists = [_list_in(cell) for cell in cells]
    for row, (numbers, cell) in enumerate(zip(lists, cells, strict=True), start):
        where = f"{shown(path)} row {row} column {shown(name)!r}"
        if numbers is None:
            raise DataError(f"{where} is {shown(cell)!r}, no list: mend it")
        width = len(numbers) if width is None else width
        if len(numbers) != width:
            raise DataError(
                f"{where} holds {len(numbers)} numbers, row 0 {width}: give lists of one length"
            )
    return np.array(lists, np.float64)


def _list_in(cell: str) -> list[float] | None:
    """Return the numbers of a list, or of lists of lists, that a cell holds as JSON, if any."""
    if not cell.startswith("["):
        return None
    try:
        numbers = numbers_in(json.loads(cell))
        return None if numbers is None else list(map(float, numbers))
    except (ValueError, OverflowError, RecursionError):
        return None


def _read_texts(path: Path, roles: Roles, parts: Iterator[_Rows]) -> TextSource:
    labels = LabelTexts(roles.labels)
    texts = {name: KeptTexts() for name in roles.samples}
    for part in parts:
        labels.extend(part)
        for name, column in texts.items():
            column.extend(part[name])
    columns = list(texts.values())
    check_count(len(columns[0]), str(path))
    read = labels.read(shown(path))
    return TextSource(path, columns, *read, lambda row: f"{shown(path)} row {row}")


def _single(values: AnyArray) -> Array:
    """Round numbers to float32, whole ones as their text would be: to a double first."""
    if values.dtype.kind in "iu":
        values = values.astype(np.float64)
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _numbers(path: Path, name: str, cells: Sequence[str], start: int) -> AnyArray:
    """Return some rows of a column as float64; ``start`` is the first one's number."""
    try:
        return np.array(list(map(float, cells)))
    except ValueError:
        pass
    try:
        return np.array(list(map(number_of, cells)))
    except ValueError:
        raise _no_number(path, name, cells, start) from None


def _no_number(path: Path, name: str, cells: Sequence[str], start: int) -> DataError:
    """Return the error for a column that holds something else somewhere."""
    row, cell = next((r, c) for r, c in enumerate(cells, start) if not _is_number(c))
    where = f"{shown(path)} row {row} column {shown(name)!r}"
    if is_image(cell):
        return DataError(
            f"{where} is {shown(cell)!r}, the name of an image: give the images' folder as data, "
            f"and the file by --labels {shown(path)}"
        )
    if _is_number(cell.replace(",", ".", 1)):
        return DataError(f"{where} is {shown(cell)!r}: write decimals with a point")
    what = "is empty" if not cell.strip() else f"is {shown(cell)!r}, no number"
    return DataError(
        f"{where} {what}: a model takes numbers; encode or fill it as the model was trained with, "
        "or leave the column out"
    )


def _is_number(cell: str) -> bool:
    try:
        number_of(cell)
    except ValueError:
        return False
    return True
