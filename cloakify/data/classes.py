"""Which of a model's classes a label is, by the order of the classes that was given or is told."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import numpy as np

from cloakify.data.naming import shown, some
from cloakify.data.sanity import MOST_LABELS
from cloakify.data.text_files import opened_text
from cloakify.errors import DataError, UsageError
from cloakify.numeric.arrays import Labels
from cloakify.onnxfile import readings

Names = tuple[str, ...]

# Characters of a list of classes: more than any has.
_LONGEST = 1 << 22


def read_names(
    option: str,
    num_classes: int,
    encoding: str | None = None,
    called: Names | None = None,
) -> Names:
    """Return the names that ``--classes`` gives, a list, a range of numbers, or a file with one.

    A file may have several names for each class (``n01440764``, ``tench``): those that the data's
    classes are called by count, if there are such.

    Parameters
    ----------
    option
        What was given.
    num_classes
        How many classes the model has.
    encoding
        As for :func:`~cloakify.data.text_files.opened_text`.
    called
        What the data calls its classes, where it says so.

    Raises
    ------
    UsageError
        There is no list in it, or one of another length.
    """
    where, text = "--classes", option
    if os.path.isfile(option):
        where = f"--classes {shown(option)}"
        try:
            with opened_text(Path(option), encoding) as file:
                text = file.read(_LONGEST)
        except DataError as error:
            raise UsageError(f"--classes {error}") from None
    numbers = _range(text)
    ways = list(readings(text)) if numbers is None else [numbers]
    if not ways:
        raise UsageError(
            f"{where} gives no list of classes: write each once, in the model's order, separated "
            "by commas, or a file with one a line"
        )
    fitting = [names for names in ways if len(names) == num_classes]
    if not fitting:
        names = ways[0]
        raise UsageError(
            f"{where} has {len(names)} classes ({some(list(names))}), the model has {num_classes}: "
            "give as many, in its order"
        )
    named = (names for names in fitting if called and len(_places(called, names)) == len(called))
    return next(named, fitting[0])


def _range(text: str) -> Names | None:
    """Return the numbers of a range, ``1..10`` with both ends; ``None`` for anything else."""
    ends = re.fullmatch(r"\s*(\d{1,9})\.\.(\d{1,9})\s*", text, re.ASCII)
    if ends is None or not 0 < int(ends[2]) - int(ends[1]) < MOST_LABELS:
        return None
    return tuple(map(str, range(int(ends[1]), int(ends[2]) + 1)))


def arrange(
    labels: Labels, names: Names | None, order: Names, *, certain: bool
) -> tuple[Labels, Names | None]:
    """Turn labels of the data into classes of the model.

    Parameters
    ----------
    labels
        int64 [n].
    names
        What the labels stand for, where the data says it.
    order
        Names of the model's classes in its order. Where neither labels nor classes have other
        names than numbers, the label that belongs to each class.
    certain
        Whether the order was given for these data. If not, it counts only where the names are
        found in it.

    Returns
    -------
    labels, names
        Indices of the model's classes int64 [n], and names of these where they are known. As they
        were where the order says nothing of them.

    Raises
    ------
    DataError
        A class of the data is none of the model's.
    """
    if names is None:
        if not all(name.isdecimal() for name in order):
            return labels, order
        values, labels_of_values = np.unique(labels, return_inverse=True)
        called = tuple(map(str, values.tolist()))
        if not certain and not set(called) <= set(order):
            return labels, None
        return arrange(labels_of_values, called, order, certain=True)
    places = _places(names, order)
    missing = [name for name in names if name not in places]
    if not missing:
        table = np.array([places[name] for name in names], np.int64)
        return table[labels], order
    if not certain and len(missing) == len(names):
        return labels, names
    teller = "--classes" if certain else "the model"
    raise DataError(
        f"the data has classes ({some(missing)}) that {teller} does not name ({some(list(order))})"
        ": give the data's class names in the model's order with --classes"
    )


def arrange_columns(labels: Labels, names: Names, order: Names, *, certain: bool) -> Labels:
    """Put columns of independent labels in the model's order.

    Parameters
    ----------
    labels
        int64 [n, K] of 0 and 1.
    names, order, certain
        As for :func:`arrange`.

    Raises
    ------
    DataError
        A label of the data is none of the model's, or the other way round.
    """
    indices, _ = arrange(np.arange(len(names)), names, order, certain=certain)
    if sorted(indices.tolist()) != list(range(len(names))):
        raise DataError(
            f"the data has labels ({some(list(names))}) for only some of the model's "
            f"({some(list(order))}): give 0 or 1 for each of them"
        )
    arranged = np.empty_like(labels)
    arranged[:, indices] = labels
    return arranged


def by_number(labels: Labels, names: Names | None, num_classes: int) -> tuple[Labels, Names | None]:
    """Take numbers for indices, where the data has names of only some classes and all are numbers.

    See :func:`arrange` for parameters and return values.
    """
    if names is None or len(names) >= num_classes or not all(name.isdecimal() for name in names):
        return labels, names
    numbers = np.array([int(name) for name in names], np.int64)
    if len(set(numbers.tolist())) < len(numbers) or numbers.max() >= num_classes:
        return labels, names
    return numbers[labels], tuple(map(str, range(num_classes)))


def _places(names: Names, order: Names) -> dict[str, int]:
    """Return where names stand in an order: as they are written, else by letters and digits."""
    exact = {name: place for place, name in enumerate(order)}
    if all(name in exact for name in names):
        return {name: exact[name] for name in names}
    plain = {_plain(name): place for place, name in enumerate(order)}
    if len(plain) < len(order) or len(set(map(_plain, names))) < len(names):
        plain = exact
        return {name: plain[name] for name in names if name in plain}
    return {name: plain[_plain(name)] for name in names if _plain(name) in plain}


def _plain(name: str) -> str:
    """Return a name without what folders can't be called and typists vary."""
    # macOS parts letters from their marks in names of files.
    whole = unicodedata.normalize("NFC", name)
    return re.sub(r"[\W_]+", "", whole).casefold() or whole
