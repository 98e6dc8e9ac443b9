"""Labels in a file of their own: ``--labels FILE``, for samples of whatever form.

- ``.npy``, or ``.npz`` with ``y``: in the order of the samples.
- ``.csv``, ``.tsv``, ``.jsonl``: a row for each sample, a column of labels by its name, and one of
  the samples' names (``file_name``, ``image``, ``id``, …); without such a one, in order. Without a
  header: names and labels, or labels alone.
- ``.json``: an object of labels by name, or a list.
- Anything else is text: a line for each sample, ``cat/1.png 3`` or a label alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloakify.data.array_files import read_labels_of
from cloakify.data.cells import ENDINGS, iter_rows
from cloakify.data.folder import EXTENSIONS
from cloakify.data.labels import label_name, labels_of_texts
from cloakify.data.naming import shown, some
from cloakify.data.npy import NpzFile, open_npy
from cloakify.data.request import Request
from cloakify.data.source import Source
from cloakify.data.text_errors import text_errors
from cloakify.errors import DataError
from cloakify.numeric.arrays import Indices, Labels

_NAMES = ("file_name", "filename", "file", "image", "img", "path", "name", "key", "id", "image_id")
# Bytes of a list that is read into memory.
_LARGEST = 1 << 30


@dataclass(frozen=True)
class LabelList:
    """Labels from a file.

    Attributes
    ----------
    path
        The file.
    labels
        int64 [n], or [n, K] of 0 and 1.
    class_names
        What the labels stand for, where the file says it.
    names
        Of the samples; ``None`` where the labels are in the samples' order.
    """

    path: Path
    labels: Labels
    class_names: tuple[str, ...] | None = None
    names: list[str] | None = None

    def give(self, source: Source) -> None:
        """Label a source.

        Raises
        ------
        DataError
            There are not as many labels as samples, or a sample has none.
        """
        rows = np.arange(len(source))
        if self.names is not None:
            rows = _rows_by_name(self.path, self.names, source)
        elif len(self.labels) != len(source):
            raise DataError(
                f"{shown(self.path)} has {len(self.labels)} labels but {shown(source.path)} has "
                f"{len(source)} samples: give one for each, or the samples' names beside them"
            )
        elif any(name := source.names()):
            first, last = some(name[:1]), some(name[-1:])
            note = f"{shown(self.path)} labels the samples as they sort, from {first} to {last}"
            source.notes = (*source.notes, note)
        source.labels, source.class_names = self.labels[rows], self.class_names


def read_label_list(path: Path) -> LabelList:
    """Read a file of labels.

    Raises
    ------
    DataError
        It can't be read, or is not of a form above.
    """
    kind = path.suffix.lower()
    if kind in (".npy", ".npz"):
        return LabelList(path, *_of_array(path))
    if kind in ENDINGS:
        return _of_rows(path, list(iter_rows(path)))
    with text_errors(path):
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{shown(path)} is over a gigabyte: is it a list of labels?")
        text = path.read_text(encoding="utf-8-sig")
    return _of_json(path, text) if kind == ".json" else _of_lines(path, text.splitlines())


def _of_array(path: Path) -> tuple[Labels, tuple[str, ...] | None]:
    if path.suffix.lower() == ".npy":
        return read_labels_of(open_npy(path, texts=True))
    archive = NpzFile(path)
    name = Request("").label_of(archive.names(), shown(path))
    if name is None:
        raise DataError(f"{shown(path)} holds {some(archive.names())}: call the labels 'y'")
    return read_labels_of(archive.open(name, texts=True))


def _of_rows(path: Path, rows: list[list[str]]) -> LabelList:
    if not rows:
        raise DataError(f"{shown(path)} is empty: give a label for each sample")
    header = rows[0]
    named = {name.strip().lower(): place for place, name in enumerate(header)}
    name_place = next((named[name] for name in _NAMES if name in named), None)
    label = label_name(header)
    label_place = None if label is None else header.index(label)
    headed = label_place is not None or name_place is not None
    if len(header) == 2:
        # Of two columns the other one is clear; without a header names come first.
        if name_place is None:
            name_place = 0 if label_place is None else 1 - label_place
        label_place = 1 - name_place
    elif len(header) == 1:
        name_place, label_place = None, 0
    if label_place is None:
        raise DataError(
            f"{shown(path)} has columns {some(header)}: call that of the labels 'label', and that "
            "of the samples' names 'file_name'"
        )
    rows = rows[1:] if headed else rows
    names = None if name_place is None else [row[name_place] for row in rows]
    return _made(path, [row[label_place] for row in rows], names)


def _of_json(path: Path, text: str) -> LabelList:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if isinstance(read, dict) and all(_is_label(value) for value in read.values()):
        return _made(path, list(map(str, read.values())), list(read))
    if isinstance(read, list) and all(map(_is_label, read)):
        return _made(path, list(map(str, read)), None)
    raise DataError(f"{shown(path)} is no JSON object of labels by name, and no list: mend it")


def _is_label(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _of_lines(path: Path, lines: list[str]) -> LabelList:
    lines = [line.strip() for line in lines if line.strip()]
    parts = [_name_and_label(line) for line in lines]
    if all(name is not None for name, _ in parts):
        return _made(path, [label for _, label in parts], [str(name) for name, _ in parts])
    return _made(path, lines, None)


def _name_and_label(line: str) -> tuple[str | None, str]:
    """Split ``cat/1.png 3`` at the blanks, comma or tab behind the image's name."""
    for split in (line.rsplit, line.split):
        for sign in (None, ","):
            name, *label = split(sign, 1)
            if label and os.path.splitext(name.rstrip())[1].lower() in EXTENSIONS:
                return name.rstrip(), label[0].strip()
    return None, line


def _made(path: Path, texts: list[str], names: list[str] | None) -> LabelList:
    if not texts:
        raise DataError(f"{shown(path)} holds no labels: give one for each sample")
    return LabelList(path, *labels_of_texts(texts, shown(path)), names)


def _rows_by_name(path: Path, listed: list[str], source: Source) -> Indices:
    """Return which label belongs to each sample, by the samples' names.

    A list may give them with or without endings, and without the folders that they lie in.
    """
    own = source.names()
    if not any(own):
        raise DataError(
            f"{shown(path)} labels samples by name, but those of {shown(source.path)} have none: "
            "give labels alone, in the samples' order"
        )
    stems = [_stem(name.strip().replace("\\", "/").removeprefix("./")) for name in listed]
    forms = [(stems, own)]
    bases = [name.rpartition("/")[2] for name in own]
    if len(set(bases)) == len(bases):
        forms.append(([name.rpartition("/")[2] for name in stems], bases))
    missing = own
    for of_list, of_samples in forms:
        places: dict[str, int] = {}
        twice = [
            name for place, name in enumerate(of_list) if places.setdefault(name, place) < place
        ]
        lacking = [own[row] for row, name in enumerate(of_samples) if name not in places]
        missing = min(missing, lacking, key=len)
        if not lacking:
            wanted = set(of_samples)
            if any(name in wanted for name in twice):
                raise DataError(f"{shown(path)} lists {some(twice)} twice: keep one of each")
            return np.array([places[name] for name in of_samples], np.int64)
    raise DataError(
        f"{shown(path)} has no label for {len(missing)} of {len(own)} samples ({some(missing)}); "
        f"it names {some(listed)}"
    )


def _stem(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in EXTENSIONS else name
