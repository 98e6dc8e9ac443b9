"""Structural difference of two ONNX messages.

Two messages are walked field by field by protobuf's own description of them, so that nothing a
later ONNX version adds can be overlooked. Repeated fields whose entries have a name (nodes,
initializers, metadata entries, value infos) are matched by it, in order; others by position.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import NodeProto


@dataclass(frozen=True)
class Difference:
    """One place where two messages differ.

    Attributes
    ----------
    path
        Field names from the model down, entries by name: ``graph.node[relu_3].input[0]``.
    kind
        ``added``, ``removed``, ``changed`` or ``moved``.
    before, after
        The two values: a message, a scalar, bytes, or ``None`` where there is none.
    """

    path: str
    kind: str
    before: object = None
    after: object = None

    def __str__(self) -> str:
        if self.kind == "changed":
            return f"{self.path}: {_short(self.before)} became {_short(self.after)}"
        return f"{self.path}: {self.kind}"


def compare_models(before: Message, after: Message) -> list[Difference]:
    """List every difference between two messages of one type, in the order of their fields.

    An empty list means that their bytes are equal.
    """
    if _bytes(before) == _bytes(after):
        return []
    differences = list(_compare(before, after, ""))
    assert differences, "the messages' bytes differ in a field that the walk does not reach"
    return differences


def _compare(before: Message, after: Message, path: str) -> Iterator[Difference]:
    for field in before.DESCRIPTOR.fields:
        name = f"{path}.{field.name}" if path else field.name
        if field.is_repeated:
            compare = (
                _compare_entries if field.type == FieldDescriptor.TYPE_MESSAGE else _compare_scalars
            )
            yield from compare(getattr(before, field.name), getattr(after, field.name), name)
            continue
        if field.has_presence:
            had, has = before.HasField(field.name), after.HasField(field.name)
            if had != has:
                kind = "added" if has else "removed"
                old = getattr(before, field.name) if had else None
                new = getattr(after, field.name) if has else None
                yield Difference(name, kind, old, new)
                continue
            if not had:
                continue
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            yield from _compare(old, new, name)
        elif _differ(old, new):
            yield Difference(name, "changed", old, new)
    # Fields this onnx version has no name for are carried along; they must be equal too.
    if _unknown(before) != _unknown(after):
        yield Difference(f"{path}.(unknown fields)".lstrip("."), "changed")


def _compare_scalars(
    before: Sequence[object], after: Sequence[object], path: str
) -> Iterator[Difference]:
    for place, (old, new) in enumerate(zip(before, after, strict=False)):
        if _differ(old, new):
            yield Difference(f"{path}[{place}]", "changed", old, new)
    for place in range(len(after), len(before)):
        yield Difference(f"{path}[{place}]", "removed", before[place], None)
    for place in range(len(before), len(after)):
        yield Difference(f"{path}[{place}]", "added", None, after[place])


def _compare_entries(
    before: Sequence[Message], after: Sequence[Message], path: str
) -> Iterator[Difference]:
    had, has = _by_key(before), _by_key(after)
    matcher = SequenceMatcher(None, list(had), list(has), autojunk=False)
    kept = list(had)
    blocks = matcher.get_matching_blocks()
    still = {key for block in blocks for key in kept[block.a : block.a + block.size]}
    for key, old in had.items():
        place = f"{path}[{key}]"
        if key not in has:
            yield Difference(place, "removed", old, None)
            continue
        if key not in still:
            yield Difference(place, "moved", old, has[key])
        if _bytes(old) != _bytes(has[key]):
            yield from _compare(old, has[key], place)
    for key, new in has.items():
        if key not in had:
            yield Difference(f"{path}[{key}]", "added", None, new)


def _by_key(entries: Sequence[Message]) -> dict[str, Message]:
    """Name the entries of a repeated field so that each is found in the other message."""
    named: dict[str, Message] = {}
    for place, entry in enumerate(entries):
        name = _name(entry) or str(place)
        key, count = name, 1
        while key in named:
            count += 1
            key = f"{name}#{count}"
        named[key] = entry
    return named


def _name(entry: Message) -> str:
    if isinstance(entry, NodeProto):
        # Names may be empty; in SSA form the outputs name a node for certain.
        return entry.name or " ".join(entry.output)
    for name in ("name", "key", "domain"):
        field = entry.DESCRIPTOR.fields_by_name.get(name)
        if field is not None and not field.is_repeated:
            return str(getattr(entry, name))
    return ""


def _differ(old: object, new: object) -> bool:
    """Compare scalars, floats by their bits: 0 is not -0, and a NaN is itself."""
    if isinstance(old, float) and isinstance(new, float):
        return struct.pack("<d", old) != struct.pack("<d", new)
    return old != new


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _unknown(fields: Message | UnknownFieldSet) -> list[tuple[int, int, object]]:
    """Return number, wire type and content of the unknown fields of a message or a group."""
    unknown = UnknownFieldSet(fields) if isinstance(fields, Message) else fields
    # The stubs leave out that the set can be walked.
    entries: list[Any] = list(unknown)  # type: ignore[call-overload]
    return [
        (
            field.field_number,
            field.wire_type,
            _unknown(field.data) if isinstance(field.data, UnknownFieldSet) else field.data,
        )
        for field in entries
    ]


def _short(value: object) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
