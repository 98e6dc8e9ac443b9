"""Weights within a large message are left in its file: the message names their place there.

A message of a gigabyte is copied by every edit, and once more by whoever writes or runs it. Laid
aside, its weights are mapped as those in sidecars are (:mod:`~cloakify.onnxfile.mapped`), and put
in again where the message is written, so that all other bytes stay as they were.

The bytes of a message are walked as protobuf lays them out
(https://protobuf.dev/programming-guides/encoding/): fields, each a tag and a value.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import GraphProto, ModelProto, TensorProto

from cloakify.errors import CloakifyError
from cloakify.onnxfile.mapped import MAPPED_MODEL, can_map, is_mapped
from cloakify.onnxfile.sidecars import Place, chunks, place_of, set_place, span
from cloakify.onnxfile.sizes import raw_size

# Bytes of the largest message that protobuf reads or writes.
MESSAGE_LIMIT = (1 << 31) - 1

_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_NAME = TensorProto.DESCRIPTOR.fields_by_name["name"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number

# Wire types: how many bytes a value has, or that its length stands before it.
_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}

# What masks and gates are called: they are looked at and edited, and small.
OWN = "cloakify_"

# Says of a tensor laid aside that it had its data_location written out.
_WRITTEN_OUT = "data_location"

Bytes = bytes | mmap.mmap


@dataclass(frozen=True)
class _Field:
    """A field: where its tag begins, and where its value, without the length, begins and ends."""

    number: int
    wire: int
    tag: int
    start: int
    end: int


def lay_aside(model: ModelProto, path: Path) -> ModelProto:
    """Return a message that names the place of its weights, where they are many, in its file.

    Parameters
    ----------
    model
        What ``path`` holds; of no use afterwards.
    """
    large = [t for t in model.graph.initializer if _can_lay_aside(t)]
    if sum(map(raw_size, large)) < MAPPED_MODEL:
        return model
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        places = _places_of_weights(whole)
    for tensor in large:
        place = places.get(tensor.name)
        if place is None or place.end - place.start != raw_size(tensor):
            continue
        tensor.ClearField("raw_data")
        if tensor.HasField("data_location"):
            tensor.external_data.add(key=_WRITTEN_OUT, value="0")
        set_place(tensor, Place(str(path.absolute()), place.start, place.end - place.start))
    # Protobuf frees what a message held only with the message.
    light = ModelProto()
    light.CopyFrom(model)
    return light


def bytes_of(message: ModelProto) -> Iterator[bytes]:
    """Yield a message's bytes, a piece at a time, with the weights that were laid aside in it.

    Equal messages give equal bytes.

    Raises
    ------
    CloakifyError
        They are over protobuf's limit of 2 GiB.
    """
    aside = {tensor.name: tensor for tensor in message.graph.initializer if is_mapped(tensor)}
    if not aside:
        yield message.SerializeToString(deterministic=True)
        return
    bare = ModelProto()
    bare.CopyFrom(message)
    for tensor in bare.graph.initializer:
        if tensor.name in aside:
            # Its place among the fields.
            hold(tensor, b"?")
    yield from _filled_in(bare.SerializeToString(deterministic=True), aside)


def hold(tensor: TensorProto, values: bytes) -> None:
    """Put values into a tensor, which names no place of them any more."""
    written_out = any(entry.key == _WRITTEN_OUT for entry in tensor.external_data)
    if is_mapped(tensor):
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    if written_out:
        tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = values


def by_content(message: ModelProto) -> ModelProto:
    """Return a message in which weights laid aside are named by their digest, not their place."""
    if not any(map(is_mapped, message.graph.initializer)):
        return message
    named = ModelProto()
    named.CopyFrom(message)
    for tensor in filter(is_mapped, named.graph.initializer):
        digest = hashlib.sha256()
        for chunk in _bytes_aside(tensor):
            digest.update(chunk)
        kept = [entry for entry in tensor.external_data if entry.key == _WRITTEN_OUT]
        tensor.ClearField("external_data")
        tensor.external_data.extend(kept)
        tensor.external_data.add(key="location", value=digest.hexdigest())
    return named


def _can_lay_aside(tensor: TensorProto) -> bool:
    return (
        not tensor.name.startswith(OWN)
        and tensor.data_location == TensorProto.DEFAULT
        and not tensor.external_data
        and tensor.HasField("raw_data")
        and can_map(tensor)
    )


def _places_of_weights(whole: Bytes) -> dict[str, _Field]:
    """Return where the bytes of each initializer lie; the last ones count, as for protobuf."""
    places = {}
    for graph in _fields(whole, 0, len(whole), _GRAPH):
        for tensor in _fields(whole, graph.start, graph.end, _INITIALIZER):
            name = _name(whole, tensor)
            for data in _fields(whole, tensor.start, tensor.end, _RAW_DATA):
                places[name] = data
    return places


def _filled_in(bare: bytes, aside: Mapping[str, TensorProto]) -> Iterator[bytes]:
    """Yield the bytes of a message, each stand-in replaced, and all lengths around it."""
    (graph,) = _fields(bare, 0, len(bare), _GRAPH)
    pieces: list[tuple[int, int, bytes, TensorProto]] = []
    at, grown = graph.start, 0
    for tensor in _fields(bare, graph.start, graph.end, _INITIALIZER):
        weights = aside.get(_name(bare, tensor))
        if weights is None:
            continue
        (data,) = _fields(bare, tensor.start, tensor.end, _RAW_DATA)
        size = place_of(weights).length or 0
        opened = _varint(_RAW_DATA << 3 | _LENGTH) + _varint(size)
        inner = tensor.end - tensor.start - (data.end - data.tag) + len(opened) + size
        head = _varint(_INITIALIZER << 3 | _LENGTH) + _varint(inner)
        before = head + bare[tensor.start : data.tag] + opened
        pieces.append((at, tensor.tag, before, weights))
        grown += len(before) + size - (data.end - tensor.tag)
        at = data.end
    length = graph.end - graph.start + grown
    start = bare[: graph.tag] + _varint(_GRAPH << 3 | _LENGTH) + _varint(length)
    if len(start) + length + len(bare) - graph.end > MESSAGE_LIMIT:
        raise CloakifyError("the model is over protobuf's limit of 2 GiB")
    yield start
    for begin, end, before, weights in pieces:
        yield bare[begin:end] + before
        yield from _bytes_aside(weights)
    yield bare[at:]


def _bytes_aside(tensor: TensorProto) -> Iterator[bytes]:
    place = place_of(tensor)
    path = Path(place.location)
    return chunks(path, *span(place, path))


def _name(whole: Bytes, tensor: _Field) -> str:
    """Return a tensor's name, the last that is said."""
    names = [*_fields(whole, tensor.start, tensor.end, _NAME)]
    return whole[names[-1].start : names[-1].end].decode(errors="replace") if names else ""


def _fields(whole: Bytes, start: int, end: int, wanted: int) -> Iterator[_Field]:
    """Yield the fields of a number, of those with a length, of a message that was parsed before."""
    at = start
    while at < end:
        tag = at
        key, at = _read_varint(whole, at)
        number, wire = key >> 3, key & 7
        size = _FIXED.get(wire, 0)
        if wire == _VARINT:
            _, at = _read_varint(whole, at)
        elif wire == _LENGTH:
            size, at = _read_varint(whole, at)
        if number == wanted and wire == _LENGTH:
            yield _Field(number, wire, tag, at, at + size)
        at += size


def _read_varint(whole: Bytes, at: int) -> tuple[int, int]:
    """Return a number, seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = whole[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
