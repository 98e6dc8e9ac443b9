"""Dataclasses whose fields are arrays of the same length, as tables."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Table = TypeVar("Table")


def at(table: Table, rows: NDArray[np.bool_]) -> Table:
    """Return some rows of every field."""
    return type(table)(*(array[rows] for array in _arrays(table)))


def joined(first: Table, second: Table) -> Table:
    """Return the rows of both tables, one after the other; a table without rows has any shapes."""
    if not len(_arrays(first)[0]):
        return second
    pairs = zip(_arrays(first), _arrays(second), strict=True)
    return type(first)(*(np.concatenate(pair) for pair in pairs))


def _arrays(table: Any) -> list[NDArray[Any]]:
    return [getattr(table, field.name) for field in fields(table)]
