"""Images whose labels stand in a file beside them: `metadata.csv` or `metadata.jsonl`.

The form is that of Hugging Face's imagefolder: a column ``file_name``, relative to the folder, and
one of labels. Columns of names may be called otherwise, as in lists of labels
(:mod:`cloakify.data.listed_columns`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from cloakify.data.bounds import check_count
from cloakify.data.cells import stream_columns
from cloakify.data.folder import ImageFolder
from cloakify.data.label_columns import LabelTexts, flags_in, label_columns
from cloakify.data.listed_columns import listed_columns
from cloakify.data.names import Names, Places
from cloakify.data.naming import shown
from cloakify.data.request import Request
from cloakify.data.roles import no_labels
from cloakify.errors import DataError
from cloakify.settings.endings import is_image

FILES = ("metadata.csv", "metadata.jsonl")
_NAME = "file_name"


def list_file(path: Path) -> Path | None:
    """Return the file in a folder that says its images' labels, or ``None``."""
    return next((path / name for name in FILES if (path / name).is_file()), None)


def open_listed(path: Path, file: Path, request: Request) -> ImageFolder:
    """Open the images that a file lists.

    Parameters
    ----------
    path
        The folder.
    file
        The list.
    request
        What is asked of the data.

    Raises
    ------
    DataError
        The file can't be read or has not the columns, a name leads out of the folder, to no image
        or to none that is there, or stands twice.
    """
    header, parts = stream_columns(file, request.encoding)
    first = next(parts, None) or dict.fromkeys(header, ())
    of_names = _of_names(header, first)
    if of_names is None:
        raise DataError(f"{shown(file)} has no column {_NAME!r}: name the images in one")
    columns = label_columns(header, request, shown(file), partial(flags_in, first), of_names)
    if not columns.names:
        raise no_labels(file, header)
    names, labels = Names(), LabelTexts(columns)
    for part in chain([first], parts):
        names.extend(_checked(path, file, name) for name in part[of_names])
        labels.extend(part)
    check_count(len(names), str(file))
    again = Places(names).again()
    if len(again):
        raise DataError(f"{shown(file)} lists {shown(names[int(again[0])])} twice: keep one")
    folder = ImageFolder(path, names, *labels.read(shown(file)), columns.notes)
    if of_names != _NAME:
        note = f"{shown(file)}: the images are those of column {shown(of_names)}"
        folder.notes = (note, *folder.notes)
    folder.is_text = True
    return folder


def _of_names(header: Sequence[str], first: Mapping[str, Sequence[str]]) -> str | None:
    """Return the column of the images' names."""
    if _NAME in header:
        return _NAME
    rows = list(zip(*first.values(), strict=True))
    files = [name for name in header if first[name] and all(map(is_image, first[name]))]
    place = listed_columns(header, rows).name
    listed = None if place is None else header[place]
    return listed if listed in files else next(iter(files), None)


def _checked(path: Path, file: Path, name: str) -> str:
    if not name:
        raise DataError(f"{shown(file)} has a row without a {_NAME}: fill it in")
    parts = Path(name).parts
    if os.path.isabs(name) or ".." in parts:
        raise DataError(
            f"{shown(file)} lists {shown(name)}, which lies outside its folder: mend it"
        )
    if not is_image(name):
        raise DataError(
            f"{shown(file)} lists {shown(name)}, whose ending is no image's: remove the row"
        )
    if not (path / name).is_file():
        raise DataError(f"{shown(file)} lists {shown(name)}, which is not there: remove the row")
    return "/".join(parts)
