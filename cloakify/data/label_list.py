"""Labels in a file of their own: ``--labels FILE``, for samples of whatever form.

- ``.npy``, or ``.npz`` with ``y`` or with one array: in the order of the samples.
- ``.csv``, ``.tsv``, ``.jsonl``: a row for each sample, a column of labels by its name, and one of
  the samples' names (``file_name``, ``image``, ``id``, …); without such a one, in order. Without a
  header: names and labels, or labels alone. Labels may be columns of 0 and 1, one for each class.
- ``.json``: an object of labels by name, or a list.
- Any of these and the next compressed: ``.csv.gz``.
- Anything else is text: a line for each sample, ``cat/1.png 3`` or a label alone. Where the samples
  go by the first words of lines, the second ones are the labels (``Abyssinian_100 1 1 1``), and
  lines that begin with ``#`` are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from cloakify.data.array_files import read_labels_of
from cloakify.data.cells import iter_rows
from cloakify.data.foreign import no_list
from cloakify.data.idx import is_idx, labels_in, read_idx
from cloakify.data.json_text import json_value
from cloakify.data.label_columns import LabelColumns, LabelTexts, flags_in, label_columns
from cloakify.data.labels import TextLabels, label_name
from cloakify.data.names import Names, Places, Renamed
from cloakify.data.naming import shown, some
from cloakify.data.npy import NpzFile, open_npy
from cloakify.data.request import Request
from cloakify.data.source import Source
from cloakify.data.text_files import lines_of, opened_text
from cloakify.errors import DataError
from cloakify.numeric.arrays import Indices, Labels
from cloakify.settings.endings import PLAIN_TABLES, is_image, unpacked_ending

# Without signs between words, and in small letters.
_NAMES = ("filename", "file", "image", "img", "path", "name", "key", "id", "imageid", "imagename")
# What labels are called in lists beside samples' names, where nothing goes by a name of labels.
_LABELS = ("classid", "classname", "labelid", "labelname", "category", "categoryid", "breed")
# Rows that are looked at to tell what columns hold.
_TOGETHER = 4096
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
    is_text
        Whether the file is one of text.
    first, second
        The first words of lines, and the second ones, which are the labels where the samples go
        by the first; ``None`` where there are none.
    """

    path: Path
    labels: Labels
    class_names: tuple[str, ...] | None = None
    names: Sequence[str] | None = None
    is_text: bool = False
    first: Names | None = None
    second: TextLabels | None = None

    def give(self, source: Source) -> None:
        """Label a source.

        Raises
        ------
        DataError
            There are not as many labels as samples, or a sample has none.
        """
        if self.first is not None and _all_named(self.path, self.first, source):
            assert self.second is not None
            named = _made(self.path, self.second, self.first)
            replace(named, is_text=self.is_text).give(source)
            return
        rows = np.arange(len(source))
        if self.names is not None:
            rows = _rows_by_name(self.path, self.names, source)
        elif len(self.labels) != len(source):
            raise DataError(
                f"{shown(self.path)} has {len(self.labels)} labels but {shown(source.path)} has "
                f"{len(source)} samples: give one for each, or the samples' names beside them"
            )
        elif (names := source.names()) is not None:
            first, last = some(names[:1]), some(names[-1:])
            note = f"{shown(self.path)} labels the samples as they sort, from {first} to {last}"
            source.notes = (*source.notes, note)
        source.labels, source.class_names = self.labels[rows], self.class_names
        source.is_text |= self.is_text


def read_label_list(path: Path, encoding: str | None = None) -> LabelList:
    """Read a file of labels.

    Parameters
    ----------
    path
        The file.
    encoding
        As for :func:`~cloakify.data.text_files.opened_text`.

    Raises
    ------
    DataError
        It can't be read, or is not of a form above.
    """
    if path.suffix.lower() in (".npy", ".npz"):
        return LabelList(path, *_of_array(path))
    if is_idx(path):
        return LabelList(path, *labels_in(read_idx(path)))
    foreign = no_list(path)
    if foreign is not None:
        raise foreign
    return replace(_of_text(path, encoding), is_text=True)


def _of_text(path: Path, encoding: str | None) -> LabelList:
    kind = unpacked_ending(path.name)
    if kind in PLAIN_TABLES:
        return _of_rows(path, iter_rows(path, encoding))
    else_do = "is it a list of labels?"
    with opened_text(path, encoding, largest=_LARGEST, else_do=else_do) as file:
        if kind == ".json":
            return _of_json(path, file.read())
        return _of_lines(path, lines_of(path, file))


def _of_array(path: Path) -> tuple[Labels, tuple[str, ...] | None]:
    if path.suffix.lower() == ".npy":
        return read_labels_of(open_npy(path, texts=True))
    archive = NpzFile(path)
    names = archive.names()
    name = names[0] if len(names) == 1 else Request("").label_of(names, shown(path))
    if name is None:
        raise DataError(f"{shown(path)} holds {some(names)}: call the labels 'y'")
    return read_labels_of(archive.open(name, texts=True))


def _of_rows(path: Path, rows: Iterator[list[str]]) -> LabelList:
    """Read a table of names and labels."""
    header = next(rows, None)
    if header is None:
        raise DataError(f"{shown(path)} is empty: give a label for each sample")
    named = {re.sub(r"[\W_]", "", name).lower(): place for place, name in enumerate(header)}
    name_place = next((named[name] for name in _NAMES if name in named), None)
    label = label_name(header)
    label_place = None if label is None else header.index(label)
    if label_place is None and name_place is not None:
        label_place = next((named[name] for name in _LABELS if name in named), None)
    headed = label_place is not None or name_place is not None
    if len(header) == 2:
        # Of two columns the other one is clear; without a header names come first.
        if name_place is None:
            name_place = 0 if label_place is None else 1 - label_place
        label_place = 1 - name_place
    elif len(header) == 1:
        name_place, label_place = None, 0
    if label_place is None:
        return _of_columns(path, header, name_place, rows)
    names, labels = Names(), TextLabels()
    for row in rows if headed else chain([header], rows):
        labels.extend([row[label_place]])
        if name_place is not None:
            names.append(row[name_place])
    return _made(path, labels, None if name_place is None else names)


def _of_columns(
    path: Path, header: list[str], name_place: int | None, rows: Iterator[list[str]]
) -> LabelList:
    """Read labels of several columns, 0 and 1 each, beside the samples' names."""
    first = list(islice(rows, _TOGETHER))
    part = dict(zip(header, zip(*first, strict=True), strict=True)) if first else {}
    apart = None if name_place is None else header[name_place]
    columns = label_columns(header, Request(""), shown(path), partial(flags_in, part), apart)
    others = tuple(name for name in header if name != apart)
    if not columns.names and apart is not None and first and flags_in(part, others):
        columns = LabelColumns(others, others)
    if not columns.names or len(set(header)) < len(header):
        raise DataError(
            f"{shown(path)} has columns {some(header)}: call that of the labels 'label', and that "
            "of the samples' names 'file_name'"
        )
    names, labels = Names(), LabelTexts(columns)
    for row in chain(first, rows):
        labels.extend({name: [cell] for name, cell in zip(header, row, strict=True)})
        if name_place is not None:
            names.append(row[name_place])
    read, classes = labels.read(shown(path))
    assert read is not None
    return LabelList(path, read, classes, None if name_place is None else names)


def _of_json(path: Path, text: str) -> LabelList:
    read = json_value(text)
    if isinstance(read, dict) and all(map(_is_label, read.values())):
        return _made(path, TextLabels(map(str, read.values())), Names(read))
    if isinstance(read, list) and all(map(_is_label, read)):
        return _made(path, TextLabels(map(str, read)), None)
    if isinstance(read, dict) and {"images", "annotations"} <= read.keys():
        raise DataError(
            f"{shown(path)} holds annotations as COCO has them, any number of an image: write an "
            "object of the class of each image by its name, or a .csv"
        )
    raise DataError(f"{shown(path)} is no JSON object of labels by name, and no list: mend it")


def _is_label(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _of_lines(path: Path, lines: Iterable[str]) -> LabelList:
    whole, labels, names = TextLabels(), TextLabels(), Names()
    first, second = Names(), TextLabels()
    for line in filter(None, map(str.strip, lines)):
        whole.extend([line])
        words = re.split(r"[\s,;]+", line, maxsplit=2)
        if len(words) > 1 and not line.startswith("#"):
            first.append(words[0])
            second.extend([words[1]])
        name, label = _name_and_label(line)
        if name is not None:
            names.append(name)
            labels.extend([label])
    if len(names) == len(whole):
        return _made(path, labels, names)
    alone = _made(path, whole, None)
    return replace(alone, first=first, second=second) if len(first) else alone


def _name_and_label(line: str) -> tuple[str | None, str]:
    """Split ``cat/1.png 3`` at the blanks, comma or tab behind the image's name."""
    for split in (line.rsplit, line.split):
        for sign in (None, ","):
            name, *label = split(sign, 1)
            if label and is_image(name.rstrip()):
                return name.rstrip(), label[0].strip()
    return None, line


def _made(path: Path, labels: TextLabels, names: Names | None) -> LabelList:
    if not len(labels):
        raise DataError(f"{shown(path)} holds no labels: give one for each sample")
    return LabelList(path, *labels.read(shown(path)), names)


def _rows_by_name(path: Path, listed: Sequence[str], source: Source) -> Indices:
    """Return which label belongs to each sample, by the samples' names.

    A list may give them with or without endings, and without the folders that they lie in.
    """
    own = source.names()
    if own is None:
        raise DataError(
            f"{shown(path)} labels samples by name, but those of {shown(source.path)} have none: "
            "give labels alone, in the samples' order"
        )
    stems = Renamed(len(listed), lambda place: _stem(listed[place]))
    lacking = np.arange(len(own))
    for of_list, of_samples in _forms(stems, own):
        there = Places(of_list)
        places = there.of(of_samples)
        if (places >= 0).all():
            _refuse_twice(path, of_list, there.again(), of_samples)
            return places
        lacking = min(lacking, np.flatnonzero(places < 0), key=len)
    missing = Renamed(len(lacking), lambda place: own[int(lacking[place])])
    others = "; is it the list of other samples, as of another split?" * (len(lacking) == len(own))
    raise DataError(
        f"{shown(path)} has no label for {len(missing)} of {len(own)} samples ({some(missing)}); "
        f"it names {some(listed)}{others}"
    )


def _all_named(path: Path, listed: Sequence[str], source: Source) -> bool:
    """Tell whether a list names each sample of a source, and once."""
    if source.names() is None:
        return False
    try:
        _rows_by_name(path, listed, source)
    except DataError:
        return False
    return True


def _forms(
    stems: Sequence[str], own: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield names of a list and of samples that may be the same: whole ones, then without folders.

    The latter only where they tell the samples apart.
    """
    yield stems, own
    bases = _bases(own)
    if not len(Places(bases).again()):
        yield _bases(stems), bases


def _refuse_twice(
    path: Path, of_list: Sequence[str], again: Indices, of_samples: Sequence[str]
) -> None:
    """Raise DataError where a list names a sample more than once."""
    twice = Renamed(len(again), lambda place: of_list[int(again[place])])
    if len(again) and (Places(of_samples).of(twice) >= 0).any():
        raise DataError(f"{shown(path)} lists {some(twice)} twice: keep one of each")


def _bases(names: Sequence[str]) -> Sequence[str]:
    return Renamed(len(names), lambda place: names[place].rpartition("/")[2])


def _stem(name: str) -> str:
    """Return a name as sources have it, without an image's ending."""
    name = name.strip().replace("\\", "/").removeprefix("./")
    return os.path.splitext(name)[0] if is_image(name) else name
