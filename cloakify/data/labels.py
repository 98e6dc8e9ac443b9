"""Labels as people store them: class indices, whole-number floats, or the classes' names."""

from __future__ import annotations

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


def labels_of_texts(texts: Sequence[str], where: str) -> tuple[Labels, tuple[str, ...] | None]:
    """Read labels from text: whole numbers are class indices, anything else a class's name.

    Returns
    -------
    tuple
        int64 [n], and the names in their order; ``None`` where the labels are indices.

    Raises
    ------
    DataError
        A label is empty or negative, or there are more classes than any classifier has.
    """
    for row, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"{where} row {row} has no label: fill it in, or remove the row")
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
