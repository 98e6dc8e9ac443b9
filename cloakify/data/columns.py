"""Columns of tables that pyarrow reads: what Parquet and Arrow files have in common.

Needs pyarrow (``pip install cloakify[parquet]``), which also reads what Hugging Face's ``datasets``
writes. That library itself is no dependency: it copies what it opens into a cache below the home
folder, and asks the network for what it does not find.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_count
from cloakify.data.naming import shown
from cloakify.errors import DataError


class Column(Protocol):
    """One column of several files, read a piece at a time."""

    def __len__(self) -> int:
        """Number of rows."""

    def where(self, row: int) -> str:
        """How messages name a row: by its number in its own file."""

    def value(self, row: int) -> Any:
        """The pyarrow scalar in that row."""


class ColumnFiles(ABC):
    """Files whose rows count as those of one table, in the files' order.

    Attributes
    ----------
    path
        What the user gave.
    files
        The files, at least one.
    schema
        The first one's ``pyarrow.Schema``.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self.files = list(files)
        self.schema = self._read_schema()
        # Before anything of as many rows is read.
        check_count(len(self), str(path))

    @abstractmethod
    def _read_schema(self) -> Any:
        """Read the first file's schema."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def column(self, name: str) -> Column:
        """Open a column.

        Raises
        ------
        DataError
            A file is damaged, lacks the column, or claims to hold more than is read.
        """

    @abstractmethod
    def parts(self, name: str) -> list[Any]:
        """Read a column of numbers whole: pyarrow arrays, a file's or a piece's each."""

    def where(self, name: str) -> str:
        """How messages name a column."""
        return f"{shown(self.files[0])} column {shown(name)!r}"

    def numbers(self, name: str, what: str) -> NDArray[np.generic]:
        """Read a column of numbers; ``what`` its rows hold, as an error calls it.

        Raises
        ------
        DataError
            It holds no numbers, or not in every row.
        """
        kind = self.schema.field(name).type
        # Looked at first: numbers take the memory of their rows, anything else what it likes.
        if not is_numeric(kind):
            raise DataError(
                f"{self.where(name)} holds {kind}, not whole numbers: store class indices as int64"
            )
        parts = self.parts(name)
        if any(part.null_count for part in parts):
            raise DataError(
                f"{self.where(name)} has empty {what}: fill them in, or remove the rows"
            )
        # An empty shard has no chunks, and its type would spoil that of the others.
        arrays = [np.asarray(part.to_numpy(zero_copy_only=False)) for part in parts if len(part)]
        return np.concatenate(arrays) if arrays else np.empty(0, np.int64)

    def texts(self, name: str) -> list[str]:
        """Read a column as text, an empty cell as the empty text."""
        column = self.column(name)
        values = (column.value(row).as_py() for row in range(len(column)))
        return ["" if value is None else str(value) for value in values]


def unlike(file: Path, name: str, kind: Any, first: Any) -> DataError:
    """Return the error for a column that a file has of another type than the first file."""
    return DataError(
        f"{shown(file)} column {shown(name)!r} holds {kind}, in the first file {first}: write both "
        "alike"
    )


def is_numeric(kind: Any) -> bool:
    """Tell whether a type is one of numbers or booleans."""
    types = pyarrow_module().types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def is_text(kind: Any) -> bool:
    """Tell whether a type is one of text, also where each stands only once (a categorical)."""
    types = pyarrow_module().types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_list(kind: Any) -> bool:
    """Tell whether a type is one of lists."""
    types = pyarrow_module().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def stored(array: Any) -> Any:
    """Return an array as it is stored, where a library has given its type another name."""
    pyarrow = pyarrow_module()
    return array.storage if isinstance(array, pyarrow.ExtensionArray) else array


def stored_schema(schema: Any) -> Any:
    """Return a schema with the types that are stored."""
    pyarrow = pyarrow_module()
    for place, field in enumerate(schema):
        if isinstance(field.type, pyarrow.BaseExtensionType):
            schema = schema.set(place, field.with_type(field.type.storage_type))
    return schema


def pyarrow_module() -> ModuleType:
    """Return pyarrow with the parts that are used; DataError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
        import pyarrow.types
    except ImportError:
        raise DataError(
            "Parquet and Arrow files need pyarrow: install it with pip install 'cloakify[parquet]'"
        ) from None
    return pyarrow  # type: ignore[no-any-return]
