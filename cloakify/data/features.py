"""What the columns of a table are for: by types, by what Hugging Face tells, or by their names.

``datasets`` writes into a schema's metadata what each column is: an image, classes with their
names. Elsewhere a column's type and its name have to do.
"""

from __future__ import annotations

import json
from typing import Any

from cloakify.data.columns import is_list, is_numeric, is_text, pyarrow_module
from cloakify.data.labels import LABEL_NAMES
from cloakify.data.request import Request

IMAGE_NAMES = ("image", "img", "pixel_values")
"""Names that columns of images go by."""

# What pandas calls the rows' own names.
_INDEX = "__index_level_"


class Features:
    """The columns of a table.

    Parameters
    ----------
    schema
        A ``pyarrow.Schema``, its types as they are stored.
    request
        What is asked of it.
    where
        How messages name the table.
    """

    def __init__(self, schema: Any, request: Request, where: str) -> None:
        self._types = {f.name: f.type for f in schema if not f.name.startswith(_INDEX)}
        self._described = _described(schema.metadata)
        self._request, self._where = request, where

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        return list(self._types)

    def label(self, apart: str | None = None) -> str | None:
        """Return the column of labels; ``apart`` is that of the samples."""
        named = self._request.label_of(self.names, self._where, apart)
        return named or self._only("ClassLabel")

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Names of the classes that a column's numbers stand for, where they are told."""
        names = self._described.get(column, {}).get("names")
        return tuple(map(str, names)) if isinstance(names, list) else None

    def samples(self) -> str | None:
        """Return the column of images, or of arrays as lists, or ``None``.

        It is called as the model's input is, or ``x``, or as images are; or it is the only one of
        images.
        """
        named = (self._request.input_name, "x", *IMAGE_NAMES)
        found = next((name for name in named if name in self._types), None)
        if found is not None:
            return found
        images = [name for name, kind in self._types.items() if _holds_image_files(kind)]
        return self._only("Image") or (images[0] if len(images) == 1 else None)

    def is_list(self, column: str) -> bool:
        """Whether a column holds arrays as lists."""
        return is_list(self._types[column])

    def is_numeric(self, column: str) -> bool:
        """Whether a column holds a number in each row."""
        return is_numeric(self._types[column])

    def is_text(self, column: str) -> bool:
        """Whether a column holds text."""
        return is_text(self._types[column])

    def kind(self, column: str) -> str:
        """What a column is, as ``datasets`` tells: ``Image``, ``Audio``, …; or ""."""
        return str(self._described.get(column, {}).get("_type", ""))

    @property
    def numbers(self) -> list[str]:
        """Columns of a table of numbers: all but the labels; empty where one holds no numbers."""
        plain = [name for name in self.names if not self._may_be_label(name)]
        return plain if all(map(self.is_numeric, plain)) else []

    def _may_be_label(self, name: str) -> bool:
        given = self._request.label
        return name == given if given else name.lower() in LABEL_NAMES

    def _only(self, kind: str) -> str | None:
        """Return the one column that ``datasets`` tells to be of a kind."""
        found = [name for name in self.names if self.kind(name) == kind]
        return found[0] if len(found) == 1 else None


def _holds_image_files(kind: Any) -> bool:
    types = pyarrow_module().types
    return bool(types.is_struct(kind) and {"bytes", "path"} <= {f.name for f in kind.fields})


def _described(metadata: dict[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Return what ``datasets`` writes of each column into a schema, where it did."""
    try:
        told = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {name: each for name, each in told.items() if isinstance(each, dict)}
