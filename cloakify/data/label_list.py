"""Labels in a file of their own: ``--labels FILE``, for samples of whatever form.

- ``.npy``, or ``.npz`` with ``y`` or with one array: in the order of the samples, or by ``names``
  beside them.
- ``.csv``, ``.tsv``, ``.jsonl``: a row for each sample, a column of labels by its name, and one of
  the samples' names (``file_name``, ``image``, ``id``, …, or one of images' names); without such a
  one, in order. Without a header: names and labels, or labels alone. Labels may be columns of 0 and
  1, one for each class, with their names above them or without.
- ``.json``: an object of labels by name, or a list of labels, of pairs, or of objects such as
  ``.jsonl`` has in its lines; also as ``labels`` within an object. A label may be a list of 0, 1.
- Any of these and the next compressed: ``.csv.gz``.
- Anything else is text: a line for each sample, ``cat/1.png 3`` or a label alone, which may be 0
  and 1 for each class (``0 1 0``, as ``numpy.savetxt`` writes them). Where the samples go by the
  first words of lines, the second ones are the labels (``Abyssinian_100 1 1 1``), and lines that
  begin with ``#`` are passed over.
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
from cloakify.data.cells import iter_rows, rows_of_objects
from cloakify.data.foreign import no_list
from cloakify.data.idx import is_idx, labels_in, read_idx
from cloakify.data.json_text import json_value
from cloakify.data.label_columns import LabelColumns, LabelTexts, flags_in, label_columns
from cloakify.data.labels import TextLabels
from cloakify.data.listed_columns import is_of_flags, is_of_names, listed_columns
from cloakify.data.listed_lines import name_and_label
from cloakify.data.names import Names, Places, Renamed
from cloakify.data.naming import shown, some
from cloakify.data.npy import NpzFile, open_npy
from cloakify.data.request import Request
from cloakify.data.source import Source
from cloakify.data.text_files import lines_of, opened_text
from cloakify.errors import DataError
from cloakify.numeric.arrays import Indices, Labels
from cloakify.settings.endings import PLAIN_TABLES, is_image, unpacked_ending

# Rows that are looked at to tell what columns hold.
_TOGETHER = 4096
# Lines that are other than the rest: of two one is no header. And characters of one that are
# shown.
_ODD, _LONGEST_SHOWN = 2, 60
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
        by the first; ``None`` where there are none. Without second ones the labels are the same.
    wrong
        Why lines are no labels, unless the samples go by their first words.
    """

    path: Path
    labels: Labels
    class_names: tuple[str, ...] | None = None
    names: Sequence[str] | None = None
    is_text: bool = False
    first: Sequence[str] | None = None
    second: TextLabels | None = None
    wrong: DataError | None = None

    def give(self, source: Source) -> None:
        """Label a source.

        Raises
        ------
        DataError
            There are not as many labels as samples, or a sample has none.
        """
        if self.first is not None and _all_named(self.path, self.first, source):
            named = replace(self, names=self.first, first=None)
            if self.second is not None:
                named = replace(_made(self.path, self.second, self.first), is_text=self.is_text)
            named.give(source)
            return
        if self.wrong is not None:
            raise self.wrong
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
        return _of_array(path)
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


def _of_array(path: Path) -> LabelList:
    if path.suffix.lower() == ".npy":
        return LabelList(path, *read_labels_of(open_npy(path, texts=True)))
    archive = NpzFile(path)
    names = archive.names()
    name = names[0] if len(names) == 1 else Request("").label_of(names, shown(path))
    if name is None:
        raise DataError(f"{shown(path)} holds {some(names)}: call the labels 'y'")
    labels = LabelList(path, *read_labels_of(archive.open(name, texts=True)))
    for other in names:
        if other != name and is_of_names(other):
            texts = archive.open(other, texts=True)
            if texts.dtype.kind == "U" and texts.shape == labels.labels.shape[:1]:
                return _by(labels, texts.mapped().tolist())
    return labels


def _by(labels: LabelList, names: Sequence[str]) -> LabelList:
    """Return labels that go by names: for sure where these are images' names."""
    certain = all(map(is_image, names))
    return replace(labels, names=names) if certain else replace(labels, first=names)


def _of_rows(path: Path, rows: Iterator[list[str]]) -> LabelList:
    """Read a table of names and labels."""
    header = next(rows, None)
    if header is None:
        raise DataError(f"{shown(path)} is empty: give a label for each sample")
    first = list(islice(rows, _TOGETHER))
    if is_of_flags(header, first):
        if is_of_flags(header, [header]):
            # numpy.savetxt writes no header.
            first = [header, *first]
            header = [f"label_{place}" for place in range(len(header))]
        return _of_columns(path, header, None, first, rows)
    columns = listed_columns(header, first)
    if columns.label is None:
        return _of_columns(path, header, columns.name, first, rows)
    of_names = columns.perhaps if columns.name is None else columns.name
    names, labels = Names(), TextLabels()
    for row in chain([] if columns.headed else [header], first, rows):
        labels.extend([row[columns.label]])
        if of_names is not None:
            names.append(row[of_names])
    made = _made(path, labels, None if columns.name is None else names)
    return made if columns.perhaps is None else replace(made, first=names)


def _of_columns(
    path: Path,
    header: list[str],
    name_place: int | None,
    first: list[list[str]],
    rows: Iterator[list[str]],
) -> LabelList:
    """Read labels of several columns, 0 and 1 each, beside the samples' names or in their order."""
    part = dict(zip(header, zip(*first, strict=True), strict=True)) if first else {}
    apart = None if name_place is None else header[name_place]
    columns = label_columns(header, Request(""), shown(path), partial(flags_in, part), apart)
    others = tuple(name for name in header if name != apart)
    if not columns.names and first and flags_in(part, others):
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
    if isinstance(read, dict) and isinstance(read.get("labels"), list):
        read = read["labels"]
    if isinstance(read, dict) and read and all(map(_is_label, read.values())):
        return _made(path, TextLabels(map(str, read.values())), Names(read))
    if isinstance(read, list):
        if all(map(_is_label, read)):
            return _made(path, TextLabels(map(str, read)), None)
        if all(map(_is_pair, read)):
            names = Names(name for name, _ in read)
            return _made(path, TextLabels(str(label) for _, label in read), names)
        if all(isinstance(each, dict) for each in read):
            return _of_rows(path, rows_of_objects(path, enumerate(read, 1)))
    if isinstance(read, dict) and {"images", "annotations"} <= read.keys():
        raise DataError(
            f"{shown(path)} holds annotations as COCO has them, any number of an image: write an "
            "object of the class of each image by its name, or a .csv"
        )
    raise DataError(
        f"{shown(path)} is no JSON object of labels by name, and no list of labels, of pairs "
        '["1.png", 3], or of objects {"file_name": "1.png", "label": 3}: write one of these'
    )


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and _is_label(value[1])
    )


def _is_label(value: object) -> bool:
    """Tell whether a value is one label, or a list of 0 and 1 for several."""
    if isinstance(value, list) and len(value) > 1:
        return all(isinstance(each, int | float) for each in value)
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _of_lines(path: Path, lines: Iterable[str]) -> LabelList:
    whole, labels, names = TextLabels(), TextLabels(), Names()
    first, second = Names(), TextLabels()
    odd: list[tuple[int, str]] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        whole.extend([line])
        words = re.split(r"[\s,;]+", line, maxsplit=2)
        if len(words) > 1 and not line.startswith("#"):
            first.append(words[0])
            second.extend([words[1]])
        name, label = name_and_label(line)
        if name is not None:
            names.append(name)
            labels.extend([label])
        elif len(odd) < _ODD and not line.startswith("#"):
            odd.append((number, line))
    if len(names):
        # Its own order counts for no list that names its samples; above them may stand a header.
        if odd and (len(odd) == _ODD or odd[0][1] != whole.first):
            number, line = odd[-1]
            raise DataError(
                f"{shown(path)} line {number} ({shown(line[:_LONGEST_SHOWN])}) names no image, as "
                "other lines do: mend it"
            )
        return _made(path, labels, names)
    try:
        alone = _made(path, whole, None)
    except DataError as error:
        if not len(first):
            raise
        alone = LabelList(path, np.zeros(0, np.int64), wrong=error)
    return replace(alone, first=first, second=second) if len(first) else alone


def _made(path: Path, labels: TextLabels, names: Sequence[str] | None) -> LabelList:
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
