"""Labels in a tar file, beside the images: ``0001.cls``, ``.index``, ``.json`` or ``.txt``.

The first of these that there is counts. A ``.cls``, ``.index`` or ``.txt`` holds a class index or a
name, a ``.json`` an object with a field of labels.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from cloakify.data.archive import Archive, Reader
from cloakify.data.json_text import json_object
from cloakify.data.labels import LABEL_NAMES, label_name
from cloakify.data.names import Names, Places
from cloakify.data.naming import shown, some
from cloakify.errors import DataError

SMALL, LARGE = (".cls", ".index"), (".json", ".txt")
"""Endings of files of labels, in the order in which they count; the latter may hold more."""

# Bytes of a label, and of a JSON object.
_LONGEST, _LARGEST = 256, 1 << 20
# Always fits an int64.
_DIGITS = 18
# Samples from which on texts that are all different are no classes.
_MANY = 20


class _Members:
    """Files with one ending: the samples that they belong to, and where their bytes lie."""

    def __init__(self) -> None:
        self.keys = Names()
        self.offsets, self.sizes = array("q"), array("q")


class TarLabels:
    """The files of labels in one archive.

    Parameters
    ----------
    archive
        The archive.
    field
        Of JSON objects the field of labels, where the user names it.
    """

    def __init__(self, archive: Archive, field: str | None) -> None:
        self._archive, self._field = archive, field
        # Those whose name has one ending, and those with several (``0001.label.cls``).
        self._found = {(kind, parted): _Members() for kind in SMALL + LARGE for parted in (0, 1)}

    def add(self, kind: str, key: str, parted: bool, offset: int, size: int) -> None:
        """Take one more file: its ending, and the sample that it belongs to."""
        members = self._found[kind, int(parted)]
        members.keys.append(key)
        members.offsets.append(offset)
        members.sizes.append(size)

    def kind(self) -> str | None:
        """Return the ending of the files that count; ``None`` where there are none."""
        for kind in SMALL + LARGE if self._field is None else (".json",):
            members = self._members(kind)
            if len(members.keys) and (kind != ".json" or self._has_field(members)):
                return kind
        return None

    def texts(self, kind: str, keys: Sequence[str]) -> Iterator[str]:
        """Yield the label of each sample, in files with that ending.

        Raises
        ------
        DataError
            One of the samples has none, or two, or a file holds no label.
        """
        members = self._members(kind)
        where = shown(self._archive.path)
        again = Places(members.keys).again()
        if len(again):
            key = shown(members.keys[int(again[0])])
            raise DataError(f"{where} holds sample {key} twice: keep one")
        places = Places(members.keys).of(keys)
        lacking = np.flatnonzero(places < 0)
        if len(lacking):
            raise no_label(self._archive, keys[int(lacking[0])], kind)
        of = self._of_object if kind == ".json" else partial(self._text, kind)
        with self._archive.opened() as read:
            for place in places.tolist():
                yield of(read, members, place)

    def _members(self, kind: str) -> _Members:
        plain, parted = self._found[kind, 0], self._found[kind, 1]
        return plain if len(plain.keys) else parted

    def _has_field(self, members: _Members) -> bool:
        """Tell whether the first object has a field of labels: others describe the image."""
        if self._field is not None:
            return True
        with self._archive.opened() as read:
            return self._field_of(self._object(read, members, 0)) is not None

    def _bytes(self, read: Reader, members: _Members, place: int, most: int) -> bytes:
        size = members.sizes[place]
        return b"" if size > most else read(members.offsets[place], size)

    def _where(self, kind: str, members: _Members, place: int) -> str:
        return f"{shown(self._archive.path)} member {shown(members.keys[place])}{kind}"

    def _text(self, kind: str, read: Reader, members: _Members, place: int) -> str:
        try:
            text = self._bytes(read, members, place, _LONGEST).decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            text = ""
        if not text or len(text.splitlines()) > 1 or (text.isdigit() and len(text) > _DIGITS):
            raise DataError(
                f"{self._where(kind, members, place)} holds no class: write its index or its name, "
                "in UTF-8"
            )
        return text

    def _object(self, read: Reader, members: _Members, place: int) -> dict[str, object]:
        fields = json_object(self._bytes(read, members, place, _LARGEST))
        if fields is None:
            raise DataError(f"{self._where('.json', members, place)} is no JSON object: mend it")
        return fields

    def _field_of(self, fields: dict[str, object]) -> str | None:
        if self._field is not None:
            return self._field if self._field in fields else None
        return "cls" if "cls" in fields else label_name(fields)

    def _of_object(self, read: Reader, members: _Members, place: int) -> str:
        fields = self._object(read, members, place)
        name = self._field_of(fields)
        if name is None:
            wanted = self._field or f"cls, {', '.join(LABEL_NAMES)}"
            raise DataError(
                f"{self._where('.json', members, place)} has fields {some(list(fields))}, none of "
                f"labels ({shown(wanted)}): name it by --labels FIELD"
            )
        value = fields[name]
        if isinstance(value, list):
            return json.dumps(value)
        if isinstance(value, dict) or value is None or len(str(value)) > _LONGEST:
            raise DataError(
                f"{self._where('.json', members, place)} field {shown(name)!r} holds no class: "
                "write its index or its name"
            )
        return str(int(value)) if isinstance(value, bool) else str(value)


def no_label(archive: Archive, key: str, kind: str = ".cls") -> DataError:
    """Return the error for a sample without a label."""
    return DataError(
        f"{shown(archive.path)} has no {shown(key)}{kind} beside the image: add the class, or pass "
        "--labels model"
    )


def check_classes_of_texts(kind: str, classes: int, samples: int, where: str) -> None:
    """Raise DataError where texts are captions: nearly every sample has its own."""
    if kind == ".txt" and samples >= _MANY and 2 * classes > samples:
        raise DataError(
            f"{where} holds {classes} different texts (.txt) for {samples} images, which are "
            "captions and no classes: add the class of each as a .cls, or pass --labels FILE"
        )
