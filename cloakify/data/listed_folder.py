"""Images whose labels stand in a file beside them: `metadata.csv` or `metadata.jsonl`.

The form is that of Hugging Face's imagefolder: a column ``file_name``, relative to the folder, and
one of labels.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from cloakify.data.bounds import check_count
from cloakify.data.cells import read_cells
from cloakify.data.folder import EXTENSIONS, ImageFolder
from cloakify.data.labels import labels_of_texts
from cloakify.data.naming import shown
from cloakify.data.request import Request
from cloakify.data.roles import no_labels
from cloakify.errors import DataError

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
    cells = read_cells(file)
    check_count(len(cells.rows), str(file))
    label = request.label_of(cells.header, shown(file))
    if label is None:
        raise no_labels(file, cells.header)
    if _NAME not in cells.header:
        raise DataError(f"{shown(file)} has no column {_NAME!r}: name the images in one")
    names = [_checked(path, file, name) for name in cells.column(_NAME)]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{shown(file)} lists {shown(twice)} twice: keep one")
    labels = labels_of_texts(cells.column(label), f"{shown(file)} column {shown(label)!r}")
    return ImageFolder(path, names, *labels, ())


def _checked(path: Path, file: Path, name: str) -> str:
    if not name:
        raise DataError(f"{shown(file)} has a row without a {_NAME}: fill it in")
    parts = Path(name).parts
    if os.path.isabs(name) or ".." in parts:
        raise DataError(f"{shown(file)} lists {shown(name)}, which lies outside its folder")
    if os.path.splitext(name)[1].lower() not in EXTENSIONS:
        raise DataError(f"{shown(file)} lists {shown(name)}, whose ending is no image's")
    if not (path / name).is_file():
        raise DataError(f"{shown(file)} lists {shown(name)}, which is not there")
    return "/".join(parts)
