"""Structural difference of two ONNX messages.

Two messages are walked field by field by protobuf's own description of them, so that nothing a
later ONNX version adds can be overlooked. Repeated fields whose entries have a name (nodes,
initializers, metadata entries, value infos) are matched by it, in order; others by position.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
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
    """List every difference between two messages of one type, in the order of their fields."""
    if before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True):
        return []
    return list(_compare(before, after, ""))


def _compare(before: Message, after: Message, path: str) -> Iterator[Difference]:
    for field in before.DESCRIPTOR.fields:
        name = f"{path}.{field.name}" if path else field.name
        if field.is_repeated:
            is_message = field.type == FieldDescriptor.TYPE_MESSAGE
            yield from _compare_repeated(
                getattr(before, field.name), getattr(after, field.name), is_message, name
            )
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


def _compare_repeated(
    before: Sequence[object], after: Sequence[object], is_message: bool, path: str
) -> Iterator[Difference]:
    if not is_message and list(before) == list(after):
        return
    keys_before = [_key(entry, place) for place, entry in enumerate(before)]
    keys_after = [_key(entry, place) for place, entry in enumerate(after)]
    matcher = SequenceMatcher(None, keys_before, keys_after, autojunk=False)
    for tag, low, high, new_low, new_high in matcher.get_opcodes():
        if tag == "equal":
            for old, new, key in zip(
                before[low:high], after[new_low:new_high], keys_before[low:high], strict=True
            ):
                place = f"{path}[{key}]"
                if is_message:
                    if old != new:
                        assert isinstance(old, Message) and isinstance(new, Message)
                        yield from _compare(old, new, place)
                elif _differ(old, new):
                    yield Difference(place, "changed", old, new)
            continue
        for entry, key in zip(before[low:high], keys_before[low:high], strict=True):
            kind = "moved" if key in keys_after else "removed"
            yield Difference(f"{path}[{key}]", kind, entry, None)
        for entry, key in zip(after[new_low:new_high], keys_after[new_low:new_high], strict=True):
            if key not in keys_before:
                yield Difference(f"{path}[{key}]", "added", None, entry)


def _key(entry: object, place: int) -> Hashable:
    """Name an entry of a repeated field so that the same entry is found in the other message."""
    if not isinstance(entry, Message):
        return place
    if isinstance(entry, NodeProto):
        # Names may be empty or repeated; in SSA form the outputs name a node for certain.
        return entry.name or " ".join(entry.output)
    for name in ("name", "key", "domain"):
        field = entry.DESCRIPTOR.fields_by_name.get(name)
        if field is not None and not field.is_repeated:
            return getattr(entry, name) or place
    return place


def _differ(old: object, new: object) -> bool:
    """Compare scalars; a NaN equals itself here."""
    return old != new and not (old != old and new != new)


def _unknown(fields: Message | UnknownFieldSet) -> list[tuple[int, int, object]]:
    """Return number, wire type and content of the unknown fields of a message or a group."""
    found = UnknownFieldSet(fields) if isinstance(fields, Message) else fields
    # The stubs leave out that the set can be walked.
    entries: list[Any] = list(found)  # type: ignore[call-overload]
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
