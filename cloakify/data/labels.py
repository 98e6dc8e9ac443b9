"""Labels as people store them: class indices, whole-number floats, or the classes' names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from cloakify.data.naming import shown
from cloakify.data.sanity import read_labels
from cloakify.errors import DataError
from cloakify.numeric.arrays import Labels

LABEL_NAMES = ("y", "labels", "label", "target", "class", "fine_label")
"""Names that labels go by, the preferred first."""

# A column of so many different texts is no list of classes.
_MOST_CLASSES = 100_000


def label_name(names: Collection[str], apart: str | None = None) -> str | None:
    """Return the first name of labels among names, in any case; ``apart`` is the samples'."""
    lowered = {name.strip().lower(): name for name in names if name != apart}
    return next((lowered[name] for name in LABEL_NAMES if name in lowered), None)


def numbered_labels(names: Sequence[str]) -> list[str]:
    """Return the columns of independent labels among names: ``label_0``, ``label_1``, …, in order.

    None where there are fewer than two of one kind.
    """
    stems = "|".join(LABEL_NAMES)
    found = [(name, re.fullmatch(rf"({stems})[_. ]?(\d+)", name.strip().lower())) for name in names]
    kinds: dict[str, list[tuple[int, str]]] = {}
    for name, match in found:
        if match is not None:
            kinds.setdefault(match[1], []).append((int(match[2]), name))
    several = [sorted(numbered) for numbered in kinds.values() if len(numbered) > 1]
    return [name for _, name in several[0]] if several else []


def labels_of_columns(columns: Sequence[Sequence[str]], where: str) -> Labels:
    """Read independent labels from columns of text of 0 and 1 each; int64 [n, K].

    Raises
    ------
    DataError
        A cell is something else.
    """
    try:
        values = np.array([[float(text) for text in column] for column in columns]).T
    except ValueError as error:
        raise DataError(f"{where} hold more than 0 and 1 for each label: {error}") from None
    return read_labels(values, len(values), where)


def labels_of_texts(texts: Sequence[str], where: str) -> tuple[Labels, tuple[str, ...] | None]:
    """Read labels from text: whole numbers are class indices, anything else a class's name.

    Lists such as ``[0, 1, 1]`` are independent labels.

    Returns
    -------
    tuple
        int64 [n] or [n, K], and the names in their order; ``None`` where there are no names.

    Raises
    ------
    DataError
        A label is empty or negative, or there are more classes than any classifier has.
    """
    for row, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"{where} row {row} has no label: fill it in, or remove the row")
    if all(text.lstrip().startswith("[") for text in texts) and texts:
        lists = [text.strip().strip("[]").replace(",", " ").split() for text in texts]
        if len({len(parts) for parts in lists}) == 1:
            return labels_of_columns(list(zip(*lists, strict=True)), where), None
        raise DataError(f"{where} holds lists of several lengths: give 0 or 1 for each label")
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        names = sorted(set(texts))
        if len(names) > _MOST_CLASSES:
            raise DataError(
                f"{where} holds {len(names)} different labels ({shown(names[0])}, …): is it the "
                "column of the labels?"
            ) from None
        places = {name: place for place, name in enumerate(names)}
        return np.array([places[text] for text in texts], np.int64), tuple(names)
    return labels_of_numbers(numbers, where), None


def labels_of_numbers(values: NDArray[np.generic], where: str) -> Labels:
    """Read class indices; floats must be whole numbers, false and true are 0 and 1.

    Raises
    ------
    DataError
        As :func:`~cloakify.data.sanity.read_labels`; or a float is no whole number.
    """
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.rint(values))
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise DataError(
                f"{where} row {row} is {values.flat[row]:g}, no class index: store whole numbers"
            )
        values = values.astype(np.int64)
    if values.dtype.kind == "b" and values.ndim == 1:
        values = values.astype(np.int64)
    return read_labels(values, len(values), where)
