"""Files of text that hold a table: CSV, or parted by tabs, semicolons or bars; lines of JSON."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from cloakify.data.json_text import json_object
from cloakify.data.naming import shown
from cloakify.data.text_files import lines_of, opened_text
from cloakify.errors import DataError
from cloakify.settings.endings import LINES, unpacked_ending

# Bytes of a file, and columns: what is made of text is held in memory.
_LARGEST, _MOST_COLUMNS = 1 << 31, 1 << 20
# Characters of a cell.
_LONGEST = 1 << 24
# What Excel takes for the sign between cells, in a line before the header.
_TOLD = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# Rows that are handed on together: as text they take many times what numbers do.
_TOGETHER = 4096


def stream_cells(
    path: Path, encoding: str | None = None, *, apart: bool = False
) -> tuple[list[str], Iterator[list[list[str]]]]:
    """Return the header of a table, and its rows, some at a time.

    Parameters
    ----------
    encoding
        As for :func:`~cloakify.data.text_files.opened_text`.
    apart
        Whether what objects in lines of JSON hold are columns of their own, ``x.0``, ``x.1``, …

    Raises
    ------
    DataError
        The file can't be read, is empty, has no header or a column twice, or rows differ in length:
        of a row when it is reached.
    """
    rows = iter_rows(path, encoding, apart=apart)
    header = next(rows, None)
    if header is None:
        raise DataError(f"{shown(path)} is empty: give a header and at least one row")
    if _are_values(header):
        raise DataError(
            f"{shown(path)} begins with numbers ({shown(', '.join(header[:3]))}, …), no names of "
            "columns: give it a header"
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{shown(path)} has two columns {shown(twice)!r}: rename one")
    return header, iter(lambda: list(islice(rows, _TOGETHER)), [])


def stream_columns(
    path: Path, encoding: str | None = None, *, apart: bool = False
) -> tuple[list[str], Iterator[Mapping[str, Sequence[str]]]]:
    """Return the header of a table, and the cells of each column by its name, some rows at a time.

    See :func:`stream_cells`.
    """
    header, chunks = stream_cells(path, encoding, apart=apart)
    return header, (dict(zip(header, zip(*rows, strict=True), strict=True)) for rows in chunks)


def _are_values(header: list[str]) -> bool:
    """Tell whether a header is a row of numbers: whole ones may be names, as pandas has them."""
    if all(cell.strip().isdecimal() for cell in header):
        return False
    try:
        return all(math.isfinite(float(cell)) for cell in header)
    except ValueError:
        return False


def iter_rows(
    path: Path, encoding: str | None = None, *, apart: bool = False
) -> Iterator[list[str]]:
    """Yield the rows of a table, the first of which may be its header; of JSON it is.

    Parameters
    ----------
    encoding, apart
        As for :func:`stream_cells`.

    Raises
    ------
    DataError
        As :func:`stream_cells`.
    """
    else_do = "give it as .parquet, or a part of it"
    with opened_text(path, encoding, "", largest=_LARGEST, else_do=else_do) as file:
        lines = lines_of(path, file)
        if unpacked_ending(path.name) in LINES:
            yield from _of_objects(path, lines, apart)
            return
        # Texts may be longer than the cells that the module expects.
        csv.field_size_limit(_LONGEST)
        line = next(lines, "")
        told = _TOLD.fullmatch(line)
        if told is None:
            lines = chain([line], lines)
        yield from _rows(path, lines, _delimiter(line) if told is None else told[1])


def _delimiter(line: str) -> str:
    """Return what parts the cells, by the first line: a comma where it has none of these."""
    return next((each for each in ",\t;|" if each in line), ",")


def _rows(path: Path, file: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    width = None
    for number, row in enumerate(csv.reader(file, delimiter=delimiter)):
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


def _of_objects(path: Path, file: Iterator[str], apart: bool) -> Iterator[list[str]]:
    """Read an object a line, all with the first one's keys, as a header and rows."""

    def objects() -> Iterator[tuple[int, dict[str, object]]]:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            read = json_object(line)
            if read is None:
                raise DataError(f"{shown(path)} line {number} is no JSON object: mend it")
            yield number, dict(_parts(read)) if apart else read

    return rows_of_objects(path, objects(), "line")


def rows_of_objects(
    path: Path, objects: Iterable[tuple[int, Mapping[str, object]]], called: str = "object"
) -> Iterator[list[str]]:
    """Yield objects, all with the first one's keys, as a header and rows of cells.

    Parameters
    ----------
    path
        The file that they stand in.
    objects
        Each with its number.
    called
        What is numbered.

    Raises
    ------
    DataError
        One has other keys than the first.
    """
    header: list[str] | None = None
    for number, read in objects:
        if header is None:
            header = list(read)
            yield header
        lacking = [name for name in header if name not in read]
        if lacking or len(read) != len(header):
            odd = lacking or [name for name in read if name not in header]
            raise DataError(
                f"{shown(path)} {called} {number} has not the keys of the first "
                f"({shown(odd[0])!r}): give all objects the same"
            )
        yield [_cell(read[name]) for name in header]


def _parts(read: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the values of an object, those of objects within it one by one."""
    for name, value in read.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in _inner_parts(value))
        else:
            yield name, value


def _inner_parts(read: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield what an object within another holds, with the numbers of its lists one by one."""
    for name, value in _parts(read):
        numbers: Sequence[object] = numbers_in(value) or [value]
        yield from (
            (name if len(numbers) == 1 else f"{name}.{place}", number)
            for place, number in enumerate(numbers)
        )


def numbers_in(value: object) -> list[int | float] | None:
    """Return the numbers of a list, or of lists of lists, in order; ``None`` of anything else."""
    if not isinstance(value, list):
        return None
    numbers: list[int | float] = []
    for each in value:
        inner = numbers_in(each) if isinstance(each, list) else [each]
        if inner is None or not all(isinstance(number, int | float) for number in inner):
            return None
        numbers += inner
    return numbers


def _cell(value: object) -> str:
    """Return a value as text: what is neither a number nor text as JSON, which no number is."""
    if isinstance(value, bool | list | dict):
        return str(int(value)) if isinstance(value, bool) else json.dumps(value)
    return "" if value is None else str(value)
