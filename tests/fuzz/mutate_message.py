"""Mutations that keep a model a message: fields set, entries moved, parts exchanged.

What is mutated is chosen over protobuf's own description of the messages, so that no field is left
out, and filled with what is near the truth: names that the model has, numbers that are limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from onnx import ModelProto

Pool = dict[str, list[Message]]

NUMBERS = [0, 1, -1, 2, 3, 7, 255, 1000, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40]
NUMBERS += [-(1 << 31), (1 << 63) - 1, -(1 << 63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e38, 1e-38, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", "x", "a" * 5000, "ai.onnx", "com.microsoft", "ai.onnx.ml", "cloakify_mask"]
TEXTS += ["line\nbreak", "\x1b[31m", "../../etc/passwd", "/dev/zero", "…", "axis", "value", "body"]

OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
}


def mutate_message(model: ModelProto, donor: ModelProto, random: np.random.Generator) -> bytes:
    """Return a model's bytes after one to four edits; parts come from it and from ``donor``."""
    mutant = ModelProto()
    mutant.CopyFrom(model)
    for _ in range(random.integers(1, 5)):
        pool = _pool(mutant, donor)
        sites = pool["of the mutant"]
        _edit(sites[random.integers(len(sites))], pool, random)
    return mutant.SerializeToString()


def _pool(mutant: ModelProto, donor: ModelProto) -> Pool:
    """Return all messages by type, and those of the mutant by themselves."""
    pool: Pool = defaultdict(list)
    for whole in (mutant, donor):
        for message in _messages(whole):
            pool[message.DESCRIPTOR.full_name].append(message)
            if whole is mutant:
                pool["of the mutant"].append(message)
    return pool


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                yield from _messages(part)


def _edit(message: Message, pool: Pool, random: np.random.Generator) -> None:
    fields = list(message.DESCRIPTOR.fields)
    # Mostly what is there: most fields are left out of most messages.
    filled = [field for field, _ in message.ListFields()]
    if filled and random.random() < 0.8:
        fields = filled
    field = fields[random.integers(len(fields))]
    if field.is_repeated:
        _edit_entries(message, field, pool, random)
    elif message.HasField(field.name) and random.random() < 0.15:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, field.name).CopyFrom(_like(field.message_type, pool, random))
    else:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), pool, random))


def _edit_entries(
    message: Message, field: FieldDescriptor, pool: Pool, random: np.random.Generator
) -> None:
    entries = getattr(message, field.name)
    kinds = ["drop", "double", "move", "change", "add", "add"] if len(entries) else ["add"]
    kind = kinds[random.integers(len(kinds))]
    place = int(random.integers(len(entries))) if len(entries) else 0
    whole = field.type == FieldDescriptor.TYPE_MESSAGE
    rest = list(entries)
    if whole:
        rest = [_copied(entry) for entry in entries]
    if kind == "drop":
        del rest[place]
    elif kind == "double":
        rest.insert(place, rest[place])
    elif kind == "move":
        rest.insert(int(random.integers(len(rest))), rest.pop(place))
    elif kind == "change" and not whole:
        rest[place] = _scalar(field, rest[place], pool, random)
    elif whole:
        found = _copied(_like(field.message_type, pool, random))
        rest[place : place + (kind == "change")] = [found]
    else:
        default = b"" if field.type == FieldDescriptor.TYPE_BYTES else ""
        rest.insert(place, _scalar(field, default, pool, random))
    del entries[:]
    entries.extend(rest)


def _copied(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _like(kind: Descriptor, pool: Pool, random: np.random.Generator) -> Message:
    """Return another message of a type, or an empty one where there is none."""
    found = pool.get(kind.full_name)
    return _copied(found[random.integers(len(found))]) if found else GetMessageClass(kind)()


def _scalar(field: FieldDescriptor, old: Any, pool: Pool, random: np.random.Generator) -> Any:
    if field.type in _INTEGERS:
        low, high = _INTEGERS[field.type]
        number = NUMBERS[random.integers(len(NUMBERS))]
        if isinstance(old, int) and random.random() < 0.3:
            number = old + int(random.integers(-2, 3))
        return min(max(number, low), high)
    if field.type == FieldDescriptor.TYPE_ENUM:
        values = field.enum_type.values
        return values[random.integers(len(values))].number
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return FLOATS[random.integers(len(FLOATS))]
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(field.name, pool, random)
    return _bytes(bytes(old or b""), random)


def _text(field: str, pool: Pool, random: np.random.Generator) -> str:
    if field == "op_type":
        return OPERATORS[random.integers(len(OPERATORS))]
    if random.random() < 0.3:
        return TEXTS[random.integers(len(TEXTS))]
    nodes = pool.get("onnx.NodeProto", [])
    names = [name for node in nodes for name in (*node.input, *node.output)]  # type: ignore[attr-defined]
    return str(names[random.integers(len(names))]) if names else "x"


def _bytes(old: bytes, random: np.random.Generator) -> bytes:
    kind = random.integers(4)
    if kind == 0:
        return old[: random.integers(len(old) + 1)]
    if kind == 1:
        return old + old[:8]
    if kind == 2:
        return random.bytes(int(random.integers(16)))
    return old[::-1]
