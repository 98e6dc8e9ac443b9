"""Labels as people store them: class indices, whole-number floats, or the classes' names."""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cloakify.data.naming import shown
from cloakify.data.sanity import read_labels
from cloakify.errors import DataError
from cloakify.numeric.arrays import AnyArray, Labels

LABEL_NAMES = ("y", "labels", "label", "target", "targets", "class", "fine_label")
"""Names that labels go by, the preferred first."""

_LIKELY = (
    *("classid", "classname", "labelid", "labelname", "category", "categoryid", "breed", "cls"),
    *("targetclass", "outcome", "diagnosis", "species", "variety", "sentiment"),
    *("survived", "churn", "exited", "isfraud", "fraud", "attrition"),
)

# A column of so many different texts is no list of classes.
_MOST_CLASSES = 100_000

# As pandas and JSON write them.
_TRUTH = {"false": 0.0, "true": 1.0}


def label_name(names: Collection[str], apart: str | None = None) -> str | None:
    """Return the first name of labels among names, in any case; ``apart`` is the samples'."""
    lowered = {name.strip().lower(): name for name in names if name != apart}
    return next((lowered[name] for name in LABEL_NAMES if name in lowered), None)


def likely_names(names: Iterable[str]) -> list[str]:
    """Return the names that labels may go by where none of the above is there, the likeliest first.

    Features may be called so, too: what is taken by them is to be said.
    """
    found = [name for name in names if plain_name(name) in _LIKELY]
    return sorted(found, key=lambda name: _LIKELY.index(plain_name(name)))


def plain_name(name: str) -> str:
    """Return a column's name without signs between words, in small letters."""
    return re.sub(r"[\W_]", "", name).lower()


class TextLabels:
    """A column of labels as text, of which each that stands there is held once."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._codes = array("i")
        self._known: dict[str, int] = {}
        self.extend(texts)

    def __len__(self) -> int:
        return len(self._codes)

    def extend(self, texts: Iterable[str]) -> None:
        """Take some rows more."""
        known = self._known
        self._codes.extend(known.setdefault(text, len(known)) for text in texts)

    def read(self, where: str) -> tuple[Labels, tuple[str, ...] | None]:
        """Read them: whole numbers are class indices, anything else a class's name.

        False and true are the class indices 0 and 1, and lists such as ``[0, 1, 1]``, or without
        brackets, as ``numpy.savetxt`` writes them, one-hot classes or independent labels.

        Returns
        -------
        tuple
            int64 [n] or [n, K], and the names in their order; ``None`` where there are no names.

        Raises
        ------
        DataError
            A label is empty or negative, or there are more classes than any classifier has.
        """
        texts = list(self._known)
        empty = next((place for place, text in enumerate(texts) if not text.strip()), None)
        if empty is not None:
            row = int(np.argmax(self._places() == empty))
            raise DataError(f"{where} row {row} has no label: fill it in, or remove the row")
        lists = _lists(texts)
        if lists:
            if len({len(parts) for parts in lists}) == 1:
                return labels_of_columns(_floats(lists, where)[self._places()].T, where), None
            raise DataError(f"{where} holds lists of several lengths: give 0 or 1 for each label")
        try:
            numbers = np.array([number_of(text) for text in texts], np.float64)
        except ValueError:
            return self._of_names(where)
        return labels_of_numbers(numbers[self._places()], where), None

    def flags(self, where: str) -> NDArray[np.float64]:
        """Read them as one of several independent labels; DataError where one is no number."""
        of_texts = _floats([[text] for text in self._known], where)[:, 0]
        return of_texts[self._places()]

    @property
    def first(self) -> str:
        """The first of them."""
        return next(iter(self._known))

    @property
    def names(self) -> list[str]:
        """Each of them once, sorted."""
        return sorted(self._known)

    def among(self, names: Sequence[str]) -> Labels:
        """Return which of some names each of them is, int64 [n]."""
        places = {name: place for place, name in enumerate(names)}
        order = np.array([places[text] for text in self._known], np.int64)
        return order[self._places()]

    def _of_names(self, where: str) -> tuple[Labels, tuple[str, ...]]:
        names = self.names
        if len(names) > _MOST_CLASSES:
            raise DataError(
                f"{where} holds {len(names)} different labels ({shown(names[0])}, …): is it the "
                "column of the labels?"
            )
        return self.among(names), tuple(names)

    def _places(self) -> NDArray[np.int32]:
        return np.frombuffer(self._codes, np.int32)


def number_of(text: str) -> float:
    """Read a number, false and true as 0 and 1; ValueError where it is none."""
    truth = _TRUTH.get(text.strip().lower())
    return float(text) if truth is None else truth


def _lists(texts: Sequence[str]) -> list[list[str]]:
    """Return the words of lists in brackets, or of several numbers; none where it is none."""
    lists = [text.strip().strip("[]").replace(",", " ").replace(";", " ").split() for text in texts]
    if all(text.lstrip().startswith("[") for text in texts):
        return lists
    several = any(len(parts) > 1 for parts in lists)
    return lists if several and all(is_number(part) for parts in lists for part in parts) else []


def is_number(text: str) -> bool:
    """Tell whether a text is what :func:`number_of` reads."""
    try:
        number_of(text)
    except ValueError:
        return False
    return True


def _floats(rows: Sequence[Sequence[str]], where: str) -> NDArray[np.float64]:
    """Read rows of numbers of equal length."""
    try:
        return np.array([[number_of(text) for text in row] for row in rows], np.float64)
    except ValueError as error:
        raise DataError(f"{where} hold more than 0 and 1 for each label: {error}") from None


def labels_of_columns(columns: AnyArray | Sequence[AnyArray], where: str) -> Labels:
    """Read independent labels from columns of 0 and 1 each; int64 [n, K].

    Raises
    ------
    DataError
        A cell is something else.
    """
    values = np.stack(list(columns), axis=1)
    return read_labels(values, len(values), where)


def labels_of_texts(texts: Iterable[str], where: str) -> tuple[Labels, tuple[str, ...] | None]:
    """Read labels from text; see :meth:`TextLabels.read`."""
    return TextLabels(texts).read(where)


def labels_of_numbers(values: NDArray[np.generic], where: str) -> Labels:
    """Read class indices; floats must be whole numbers, false and true are 0 and 1.

    Raises
    ------
    DataError
        As :func:`~cloakify.data.sanity.read_labels`; or a float is no whole number.
    """
    if values.dtype.kind == "f" and not (values.ndim == 2 and values.shape[1] > 1):
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
