"""Types of columns that pyarrow reads, and what a column of each can be.

Needs pyarrow (``pip install cloakify[parquet]``), which also reads what Hugging Face's ``datasets``
writes. That library itself is no dependency: it copies what it opens into a cache below the home
folder, and asks the network for what it does not find.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from cloakify.data.naming import shown
from cloakify.data.roles import Kind
from cloakify.errors import DataError

# Structs within structs that are taken apart.
_DEEPEST = 4


def kind_of(type_: Any) -> Kind:
    """Return what a column of a pyarrow type can be."""
    # Where each value stands only once, a categorical, its type is that of the dictionary.
    single = type_.value_type if _is_one_of(type_, "dictionary") else type_
    if _is_one_of(single, "integer", "floating", "boolean", "decimal"):
        return Kind.NUMBER
    if is_list(type_):
        return Kind.LIST
    if _is_one_of(type_, "struct"):
        parts = {type_.field(part).name for part in range(type_.num_fields)}
        return Kind.FILE if {"bytes", "path"} <= parts else Kind.OTHER
    if _is_one_of(type_, "binary", "large_binary", "binary_view"):
        return Kind.BYTES
    return Kind.TEXT if _is_one_of(single, "string", "large_string", "string_view") else Kind.OTHER


def numbers_of(array: Any) -> Any:
    """Return a column of numbers as one of plain ones: of decimals and categoricals, their values.

    Decimals become doubles.
    """
    if _is_one_of(array.type, "dictionary"):
        array = array.dictionary_decode()
    return array.cast(pyarrow_module().float64()) if _is_one_of(array.type, "decimal") else array


def parts_of(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return where each column lies: structs count as columns of their fields, ``features.a``.

    Structs of an image's bytes are one column; so is what lies deeper, or has a column's name.
    """
    there = set(schema.names)
    places: dict[str, tuple[str, ...]] = {}
    for field in schema:
        for place in _parts_of(field, ()):
            name = ".".join(place)
            if len(place) > 1 and name in there:
                return {name: (name,) for name in schema.names}
            places[name] = place
    return places


def _parts_of(field: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    place = (*above, field.name)
    type_ = field.type
    names = [type_.field(n).name for n in range(type_.num_fields)] if is_struct(type_) else []
    plain = len(place) > _DEEPEST or len(set(names)) < len(names) or not all(names)
    if not names or plain or kind_of(type_) is Kind.FILE:
        yield place
        return
    for number in range(type_.num_fields):
        yield from _parts_of(type_.field(number), place)


def part_of(column: Any, place: tuple[str, ...]) -> Any:
    """Return the array that lies at a place within a column."""
    return pyarrow_module().compute.struct_field(column, list(place)) if place else column


def is_struct(type_: Any) -> bool:
    """Tell whether a type is one of structs."""
    return _is_one_of(type_, "struct")


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
            "Parquet, Arrow and .zst files need pyarrow: install it with pip install "
            "'cloakify[parquet]'"
        ) from None
    return pyarrow  # type: ignore[no-any-return]
