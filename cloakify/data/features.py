"""What Hugging Face's ``datasets`` tells of a table's columns, in the metadata of its schema."""

from __future__ import annotations

from typing import Any

from cloakify.data.column_types import kind_of
from cloakify.data.json_text import json_object
from cloakify.data.roles import Kind, Told


class Features:
    """The columns of a table by types, and what is told of them; elsewhere that is nothing.

    Parameters
    ----------
    schema
        A ``pyarrow.Schema``, its types as they are stored.
    """

    def __init__(self, schema: Any) -> None:
        self._described = _described(schema.metadata)
        self.kinds: dict[str, Kind] = {field.name: kind_of(field.type) for field in schema}

    @property
    def told(self) -> Told:
        """Columns that are told to hold images, and classes."""
        return Told(self._of("Image"), self._of("ClassLabel"))

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Names of the classes that a column's numbers stand for, where they are told."""
        names = self._described.get(column, {}).get("names")
        return tuple(map(str, names)) if isinstance(names, list) else None

    def is_audio(self, column: str) -> bool:
        """Whether a column is told to hold audio files."""
        return self._type(column) == "Audio"

    def _of(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name in self.kinds if self._type(name) == kind)

    def _type(self, column: str) -> str:
        return str(self._described.get(column, {}).get("_type", ""))


def _described(metadata: dict[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Return what ``datasets`` writes of each column into a schema, where it did."""
    told: Any = json_object((metadata or {}).get(b"huggingface", b"{}"))
    for name in ("info", "features"):
        told = told.get(name) if isinstance(told, dict) else None
    if not isinstance(told, dict):
        return {}
    return {name: each for name, each in told.items() if isinstance(each, dict)}
