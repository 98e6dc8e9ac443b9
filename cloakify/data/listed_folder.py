"""Images whose labels stand in a file beside them: `metadata.csv` or `metadata.jsonl`.

The form is that of Hugging Face's imagefolder: a column ``file_name``, relative to the folder, and
one of labels.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import chain
from pathlib import Path

from cloakify.data.bounds import check_count
from cloakify.data.cells import stream_columns
from cloakify.data.folder import ImageFolder
from cloakify.data.label_columns import LabelTexts, flags_in, label_columns
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
    columns = label_columns(header, request, shown(file), partial(flags_in, first), _NAME)
    if not columns.names:
        raise no_labels(file, header)
    if _NAME not in header:
        raise DataError(f"{shown(file)} has no column {_NAME!r}: name the images in one")
    names, labels = Names(), LabelTexts(columns)
    for part in chain([first], parts):
        names.extend(_checked(path, file, name) for name in part[_NAME])
        labels.extend(part)
    check_count(len(names), str(file))
    again = Places(names).again()
    if len(again):
        raise DataError(f"{shown(file)} lists {shown(names[int(again[0])])} twice: keep one")
    folder = ImageFolder(path, names, *labels.read(shown(file)), columns.notes)
    folder.is_text = True
    return folder


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
