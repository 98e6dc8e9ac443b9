"""Types of columns that pyarrow reads, and what a column of each can be.

Needs pyarrow (``pip install cloakify[parquet]``), which also reads what Hugging Face's ``datasets``
writes. That library itself is no dependency: it copies what it opens into a cache below the home
folder, and asks the network for what it does not find.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from cloakify.data.naming import shown
from cloakify.data.roles import Kind
from cloakify.errors import DataError


def kind_of(type_: Any) -> Kind:
    """Return what a column of a pyarrow type can be."""
    if _is_one_of(type_, "integer", "floating", "boolean"):
        return Kind.NUMBER
    if is_list(type_):
        return Kind.LIST
    if _is_one_of(type_, "struct"):
        parts = {type_.field(part).name for part in range(type_.num_fields)}
        return Kind.FILE if {"bytes", "path"} <= parts else Kind.OTHER
    if _is_one_of(type_, "binary", "large_binary", "binary_view"):
        return Kind.BYTES
    # Where each text stands only once, a categorical, its type is that of the dictionary.
    text = type_.value_type if _is_one_of(type_, "dictionary") else type_
    return Kind.TEXT if _is_one_of(text, "string", "large_string", "string_view") else Kind.OTHER


def is_list(type_: Any) -> bool:
    """Tell whether a type is one of lists."""
    return _is_one_of(type_, "list", "large_list", "fixed_size_list")


def _is_one_of(type_: Any, *names: str) -> bool:
    """Tell whether a type is one of these; views only later releases of pyarrow have."""
    types = pyarrow_module().types
    asked = (getattr(types, f"is_{name}", None) for name in names)
    return any(ask is not None and ask(type_) for ask in asked)


def stored(array: Any) -> Any:
    """Return an array as it is stored, where a library has given its type another name."""
    pyarrow = pyarrow_module()
    return array.storage if isinstance(array, pyarrow.ExtensionArray) else array


def stored_schema(schema: Any, file: Path) -> Any:
    """Return the schema of a file with the types that are stored.

    Raises
    ------
    DataError
        The name of a column, or of a part of one, is no text.
    """
    pyarrow = pyarrow_module()
    try:
        for field in schema:
            _read_names(field)
    except UnicodeDecodeError:
        raise name_is_no_text(file) from None
    for place, field in enumerate(schema):
        if isinstance(field.type, pyarrow.BaseExtensionType):
            schema = schema.set(place, field.with_type(field.type.storage_type))
    return schema


def _read_names(field: Any) -> None:
    """Read the names of a field and of its parts, which are decoded only then."""
    assert isinstance(field.name, str)
    # Of lists only later releases of pyarrow have it.
    if hasattr(field.type, "field"):
        for part in range(field.type.num_fields):
            _read_names(field.type.field(part))


def name_is_no_text(file: Path) -> DataError:
    """Return the error for a name that can't be decoded."""
    return DataError(f"{shown(file)} has a column whose name is no text in UTF-8: write it again")


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
            "Parquet, Arrow and .tar.zst files need pyarrow: install it with pip install "
            "'cloakify[parquet]'"
        ) from None
    return pyarrow  # type: ignore[no-any-return]
