"""Images whose labels stand in a file beside them: `metadata.csv` or `metadata.jsonl`.

The form is that of Hugging Face's imagefolder: a column ``file_name``, relative to the folder, and
one of labels.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloakify.data.bounds import check_count
from cloakify.data.folder import EXTENSIONS, ImageFolder
from cloakify.data.labels import LABEL_NAMES, label_name, labels_of_texts
from cloakify.data.naming import shown, some
from cloakify.data.text_errors import text_errors
from cloakify.errors import DataError

FILES = ("metadata.csv", "metadata.jsonl")
_NAME = "file_name"
_LARGEST = 1 << 30


def list_file(path: Path) -> Path | None:
    """Return the file in a folder that says its images' labels, or ``None``."""
    return next((path / name for name in FILES if (path / name).is_file()), None)


def open_listed(path: Path, file: Path) -> ImageFolder:
    """Open the images that a file lists.

    Parameters
    ----------
    path
        The folder.
    file
        The list.

    Raises
    ------
    DataError
        The file can't be read or has not the columns, a name leads out of the folder, to no image
        or to none that is there, or stands twice.
    """
    rows = _rows(file)
    check_count(len(rows), str(file))
    columns = list(rows[0])
    label = label_name(columns)
    if label is None:
        raise DataError(
            f"{shown(file)} has columns {some(columns)}: call that of the labels "
            f"{' or '.join(map(repr, LABEL_NAMES))}, or pass --labels model"
        )
    names = [_checked(path, file, row.get(_NAME)) for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{shown(file)} lists {shown(twice)} twice: keep one")
    where = f"{shown(file)} column {shown(label)!r}"
    texts = ["" if row.get(label) is None else str(row[label]) for row in rows]
    labels, classes = labels_of_texts(texts, where)
    return ImageFolder(path, names, labels, classes, ())


def _checked(path: Path, file: Path, name: object) -> str:
    if not isinstance(name, str) or not name:
        raise DataError(f"{shown(file)} has a row without a {_NAME}: fill it in")
    parts = Path(name).parts
    if os.path.isabs(name) or ".." in parts:
        raise DataError(f"{shown(file)} lists {shown(name)}, which lies outside its folder")
    if os.path.splitext(name)[1].lower() not in EXTENSIONS:
        raise DataError(f"{shown(file)} lists {shown(name)}, whose ending is no image's")
    if not (path / name).is_file():
        raise DataError(f"{shown(file)} lists {shown(name)}, which is not there")
    return "/".join(parts)


def _rows(file: Path) -> Sequence[Mapping[str, object]]:
    with text_errors(file):
        if file.stat().st_size > _LARGEST:
            raise DataError(f"{shown(file)} is over a gigabyte: is it a list of images?")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        if file.suffix == ".csv":
            return list(csv.DictReader(lines))
    rows = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{shown(file)} line {number + 1} is no JSON object: mend it")
        rows.append(row)
    return rows
