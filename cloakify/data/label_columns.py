"""Which columns of a table hold the labels: one of them, or one for each class.

Labels of several columns are 0 and 1: independent ones, or one-hot classes, as ``get_dummies`` of
pandas writes them. Which of both is up to the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloakify.data.labels import (
    LABEL_NAMES,
    TextLabels,
    labels_of_columns,
    likely_names,
    number_of,
)
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.numeric.arrays import Labels

AreFlags = Callable[[Sequence[str]], bool]
"""Tells whether columns seem to hold 0 and 1 alone."""


@dataclass(frozen=True)
class LabelColumns:
    """Columns of labels.

    Attributes
    ----------
    names
        One, or several of 0 and 1, in their order; none where there are none.
    likely
        Whether the name is one that features may have as well.
    classes
        Of several what each stands for; ``None`` where that is its number.
    """

    names: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    likely: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth telling: that columns were found by what they may be called."""
        if self.likely:
            return (f"the labels are the column {some(self.names)}; --labels names another",)
        if self.classes is None:
            return ()
        return (f"the labels are the columns {some(self.names)}",)


class LabelTexts:
    """Labels as text in a column or several, some rows at a time."""

    def __init__(self, columns: LabelColumns) -> None:
        self._classes = columns.classes
        self._columns = {name: TextLabels() for name in columns.names}

    def extend(self, part: Mapping[str, Iterable[str]]) -> None:
        """Take some rows more: the cells of each column by its name."""
        for name, column in self._columns.items():
            column.extend(part[name])

    def read(self, where: str) -> tuple[Labels | None, tuple[str, ...] | None]:
        """Return the labels, int64 [n] or [n, K], and what each stands for where that is said.

        Raises
        ------
        DataError
            As :meth:`TextLabels.read`; or of several columns one holds more than 0 and 1.
        """
        if len(self._columns) > 1:
            where = f"{where} columns {some(list(self._columns))}"
            flags = [column.flags(where) for column in self._columns.values()]
            return labels_of_columns(flags, where), self._classes
        for name, column in self._columns.items():
            return column.read(f"{where} column {shown(name)!r}")
        return None, None


def flags_in(part: Mapping[str, Iterable[str]], names: Sequence[str]) -> bool:
    """Tell whether the cells of columns are all 0 and 1, or false and true, in some rows."""
    try:
        return all(number_of(cell) in (0, 1) for name in names for cell in part[name])
    except ValueError:
        return False


def label_columns(
    names: Sequence[str],
    request: Request,
    where: str,
    are_flags: AreFlags,
    apart: str | None = None,
    told: Sequence[str] = (),
) -> LabelColumns:
    """Find the columns of labels.

    That which the user names, or several of which the user gives the names (``cat,dog``) or what
    they begin with; else the first that goes by a name of labels; else the only one that is told to
    be of classes; else those that are numbered (``label_0``, ``label_1``, …), or called after the
    classes (``label_cat``, ``label_dog``); else the only one that labels may be called as
    (``species``, ``outcome``).

    Parameters
    ----------
    names
        All columns.
    request
        What is asked of the data.
    where
        How messages name the table.
    are_flags
        Of columns; those that hold more than 0 and 1 are not taken for classes.
    apart
        The column of samples.
    told
        Columns that are told to hold classes.

    Raises
    ------
    DataError
        There is none of the name that the user gave.
    """
    others = [name for name in names if name != apart]
    if request.label is not None and request.label not in names:
        listed = tuple(name.strip() for name in request.label.split(","))
        if 1 < len(listed) == len(set(listed)) and set(listed) <= set(others):
            return LabelColumns(listed, listed)
        columns = _called_after(others, re.escape(request.label.lower()), are_flags)
        if columns.names:
            return columns
    one = request.label_of(list(names), where, apart) or (told[0] if len(told) == 1 else None)
    if one is not None:
        return LabelColumns((one,))
    stems = "|".join(LABEL_NAMES)
    numbered = _numbered(others, stems)
    columns = LabelColumns(numbered) if numbered else _called_after(others, stems, are_flags)
    likely = likely_names(others)
    if not columns.names and len(likely) == 1:
        return LabelColumns((likely[0],), likely=True)
    return columns


def _numbered(names: Sequence[str], stems: str) -> tuple[str, ...]:
    """Return the columns ``label_0``, ``label_1``, …, in order; none where they are not several."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = re.fullmatch(rf"({stems})[_. ]?(\d+)", name.strip().lower())
        if match is not None:
            kinds.setdefault(match[1], []).append((int(match[2]), name))
    several = [sorted(numbered) for numbered in kinds.values() if len(numbered) > 1]
    return tuple(name for _, name in several[0]) if several else ()


def _called_after(names: Sequence[str], stems: str, are_flags: AreFlags) -> LabelColumns:
    """Return the columns ``label_cat``, ``label_dog``, … of one kind, if all are 0 and 1."""
    kinds: dict[str, dict[str, str]] = {}
    for name in names:
        match = re.fullmatch(rf"({stems})[_. ](.+)", name.strip(), re.IGNORECASE)
        if match is not None:
            kinds.setdefault(match[1].lower(), {})[name] = match[2].strip()
    for kind in kinds.values():
        if len(kind) > 1 and are_flags(tuple(kind)):
            return LabelColumns(tuple(kind), tuple(kind.values()))
    return LabelColumns()
