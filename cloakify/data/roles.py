"""What the columns of a table are for: one decision for tables of whatever form.

The samples are image files or arrays in one column, text in one or two, or the numbers of all
columns that hold no labels. A CSV, lines of JSON, a DataFrame's Parquet and what Hugging Face's
``datasets`` saves differ in what they tell of a column, not in what follows from it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cloakify.data.label_columns import AreFlags, LabelColumns, label_columns
from cloakify.data.labels import LABEL_NAMES
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.data.text_source import text_columns
from cloakify.errors import DataError

IMAGE_NAMES = ("image", "img", "pixel_values")
"""Names that columns of images go by."""

# What pandas calls the rows' own names, where they have to be columns.
_INDEX = "__index_level_"
# What columns are called that number the rows, where a table was saved with its index.
_OF_ROWS = re.compile(r"unnamed: ?\d+|index|(row[_ ]?)?id")


class Kind(Enum):
    """What a column holds in each row."""

    NUMBER = "a number"
    TEXT = "text"
    LIST = "a list"
    FILE = "a file's bytes and path"
    BYTES = "bytes"
    OTHER = "something else"


# What arrays and images can be held in.
_ARRAYS = (Kind.LIST, Kind.FILE, Kind.BYTES)


@dataclass(frozen=True)
class Told:
    """What a table says of its columns besides their types.

    Attributes
    ----------
    images, classes
        Columns that are told to hold images, and classes.
    """

    images: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def _none_are(names: Sequence[str]) -> bool:
    return False


@dataclass(frozen=True)
class Roles:
    """Which columns are which.

    Attributes
    ----------
    kind
        What the samples are made of: ``LIST`` for arrays, ``FILE`` for image files, ``TEXT``, or
        ``NUMBER``.
    samples
        Their columns.
    labels
        The column of labels, or several of 0 and 1; none where none are asked for.
    notes
        What is worth telling of columns that are none of both.
    """

    kind: Kind
    samples: tuple[str, ...]
    labels: LabelColumns
    notes: tuple[str, ...] = ()


def assign(
    kinds: Mapping[str, Kind],
    request: Request,
    file: Path,
    told: Told | None = None,
    are_flags: AreFlags = _none_are,
) -> Roles:
    """Decide what each column of a table is for.

    The labels are found as :func:`label_columns` does; where none are asked for, such columns are
    still no samples, unless the model takes as many numbers as there are columns.

    Parameters
    ----------
    kinds
        What the columns hold, in their order.
    request
        What is asked of the table.
    file
        How messages name it.
    told
        What it says itself.
    are_flags
        Whether columns seem to hold 0 and 1 alone.

    Raises
    ------
    DataError
        There is no column of labels, or none left for the samples.
    """
    where = shown(file)
    told = told or Told()
    names = [name for name in kinds if name and not name.startswith(_INDEX)]
    notes = (f"{where}: the column without a name is left out",) if "" in kinds else ()
    as_text = request.ids and kinds.get(request.input_name) not in _ARRAYS
    apart = None if as_text else _arrays(kinds, names, request, told)
    labels = label_columns(names, request, where, are_flags, apart, told.classes)
    if request.labelled and not labels.names:
        raise no_labels(file, names, _perhaps(kinds, names, request, as_text=as_text))
    if not request.labelled and apart is None and len(names) == request.width:
        # The model takes a number of each column, whatever they are called.
        labels = LabelColumns()
    asked = labels if request.labelled else LabelColumns()
    notes = (*notes, *(f"{where}: {note}" for note in asked.notes))
    if labels.names and not request.labelled:
        left_out = some(list(labels.names))
        notes = (*notes, f"{where}: {left_out} is left out, as labels are called so")
    if apart is not None:
        kind = Kind.LIST if kinds[apart] is Kind.LIST else Kind.FILE
        return Roles(kind, (apart,), asked, notes)
    plain = [name for name in names if name not in labels.names]
    if not plain:
        raise DataError(f"{where} has no column but that of the labels: add the features")
    if as_text:
        # Sentences may all be numbers.
        of_text = [name for name in plain if kinds[name] is Kind.TEXT] or plain
        texts = tuple(text_columns(plain, of_text, where))
        return Roles(Kind.TEXT, texts, asked, notes)
    if len(plain) == 1 and kinds[plain[0]] is Kind.LIST:
        return Roles(Kind.LIST, (plain[0],), asked, notes)
    inputs = request.inputs
    if request.others and all(name in plain and kinds[name] is Kind.NUMBER for name in inputs):
        # As scikit-learn's pipelines of columns are exported: an input for each.
        rest = [name for name in plain if name not in inputs]
        if rest:
            notes = (*notes, f"{where}: {some(rest)} is left out, as no input is called so")
        return Roles(Kind.NUMBER, inputs, asked, notes)
    rows = [name for name in plain if _OF_ROWS.fullmatch(name.strip().lower())]
    if rows and len(plain) - len(rows) == request.width:
        plain = [name for name in plain if name not in rows]
        left_out = f"{some(rows)} is left out: the model takes the other {len(plain)} columns"
        notes = (*notes, f"{where}: {left_out}")
    return Roles(Kind.NUMBER, tuple(plain), asked, notes)


def _arrays(
    kinds: Mapping[str, Kind], names: Sequence[str], request: Request, told: Told
) -> str | None:
    """Return the column of images, or of arrays as lists, or ``None``.

    It is called as the model's input is, or ``x``, or as images are; or it is the only one of
    images. (The only column but for the labels may hold lists under any name.)
    """
    named = (request.input_name, "x", *IMAGE_NAMES)
    column = next((name for name in named if name in names and kinds[name] in _ARRAYS), None)
    if column is not None:
        return column
    files = [name for name in names if kinds[name] is Kind.FILE]
    return _only(told.images) or _only(files)


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _perhaps(
    kinds: Mapping[str, Kind], names: Sequence[str], request: Request, *, as_text: bool
) -> str | None:
    """Return the only column that can be the labels, by what the model takes: of text, or the last.

    A model of numbers takes no text. The last one only of as many as it takes and one more.
    """
    texts = [name for name in names if kinds[name] is Kind.TEXT]
    numbers = [name for name in names if kinds[name] is Kind.NUMBER]
    if as_text:
        return _only(numbers) if texts else None
    if len(texts) == 1 and len(names) > 1:
        return texts[0]
    return names[-1] if not texts and len(numbers) - 1 == request.width else None


def no_labels(path: Path, names: Sequence[str], perhaps: str | None = None) -> DataError:
    """Return the error for a table none of whose columns goes by a name of labels.

    Parameters
    ----------
    perhaps
        The column that they may be, which only the user can tell.
    """
    wanted = ", ".join(map(repr, LABEL_NAMES))
    if perhaps is not None:
        return DataError(
            f"{shown(path)} has no column of labels ({some([*names])}): if "
            f"{shown(perhaps)!r} is that, pass --labels {shown(shlex.quote(perhaps))}, else name "
            "another, or pass --labels model to take the model's own answers"
        )
    return DataError(
        f"{shown(path)} has no column of labels ({some([*names])}): call that of the labels one of "
        f"{wanted}, name it by --labels COLUMN (a column of 0 and 1 for each class: by --labels "
        "COLUMN,COLUMN,…), or pass --labels model to take the model's own answers"
    )
