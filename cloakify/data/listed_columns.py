"""Which column of a list of labels holds the samples' names, and which one the labels.

By what the columns are called, else by what is in them: a column of images' names is that of the
samples, whatever it is called. A list that names its samples is never taken in its own order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloakify.data.labels import is_number, label_name, likely_names, number_of, plain_name
from cloakify.settings.endings import is_image

# Without signs between words, and in small letters.
_NAMES = (
    *("filename", "file", "image", "img", "path", "name", "key", "id", "imageid", "imagename"),
    *("filepath", "fname", "imagefile", "imagepath", "imgname", "imgpath"),
)
# Of numbers, more often than not: of rows, where another column holds images' names.
_OF_ROWS = ("key", "id")


@dataclass(frozen=True)
class ListedColumns:
    """What the columns of a list are for, by their places.

    Attributes
    ----------
    name
        That of the samples' names; ``None`` where there is none.
    label
        That of the labels; ``None`` where no single one is.
    headed
        Whether the first row is a header.
    perhaps
        One that may hold the samples' names, where no other does.
    """

    name: int | None
    label: int | None
    headed: bool
    perhaps: int | None = None


def is_of_names(name: str) -> bool:
    """Tell whether something is called as a list of names is, one of images is not."""
    plain = plain_name(name)
    return {plain, plain.removesuffix("s")} & set(_NAMES) - {"image", "img"} != set()


def listed_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> ListedColumns:
    """Tell what columns hold, by the first row and some of the others."""
    named = {plain_name(name): place for place, name in enumerate(header)}
    by_label = label_name(header)
    label = None if by_label is None else header.index(by_label)
    known = {each: named[each] for each in _NAMES if each in named}
    files = [place for place in range(len(header)) if place != label and _are_files(rows, place)]
    name = _of_samples(known, files)
    if label is None and known:
        label = next(map(header.index, likely_names(header)), None)
    headed = label is not None or bool(known)
    if len(header) == 1:
        return ListedColumns(None, 0, headed or _is_header(header, rows, None, 0))
    if len(header) == 2:
        # Of two columns the other one is clear; without a header names come first.
        if name is None:
            name = 0 if label is None else 1 - label
        label = 1 - name
        return ListedColumns(name, label, headed or _is_header(header, rows, name, label))
    perhaps = None
    if name is None and label is not None:
        others = (place for place in range(len(header)) if place != label)
        perhaps = next((place for place in others if _may_be_names(rows, place)), None)
    return ListedColumns(name, label, headed, perhaps)


def is_of_flags(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether a list has 0 and 1 alone, for each of several labels, and no samples' names."""
    if len(header) == 1 or label_name(header) is not None or likely_names(header):
        return False
    if any(plain_name(name) in _NAMES for name in header):
        return False
    return bool(rows) and all(
        is_number(cell) and number_of(cell) in (0, 1) for row in rows for cell in row
    )


def _of_samples(known: dict[str, int], files: Sequence[int]) -> int | None:
    """Choose the column of names: called so and of images' names, else one of both."""
    both = [place for place in known.values() if place in files]
    called = [place for name, place in known.items() if name not in _OF_ROWS]
    return next(iter([*both, *called, *files, *known.values()]), None)


def _is_header(
    header: Sequence[str], rows: Sequence[Sequence[str]], name: int | None, label: int
) -> bool:
    """Tell whether the first row is unlike those below it: no image's name, or no number."""
    if not rows:
        return False
    if name is not None and _are_files(rows, name):
        return not is_image(header[name].strip())
    return all(is_number(row[label]) for row in rows) and not is_number(header[label])


def _are_files(rows: Sequence[Sequence[str]], place: int) -> bool:
    return bool(rows) and all(is_image(row[place].strip()) for row in rows)


def _may_be_names(rows: Sequence[Sequence[str]], place: int) -> bool:
    """Tell whether cells are each another text, which numbers of rows are not."""
    cells = [row[place].strip() for row in rows]
    return (
        bool(cells)
        and all(cells)
        and len(set(cells)) == len(cells)
        and not all(map(is_number, cells))
    )
