"""What the messages of an Arrow file claim to hold, looked at before pyarrow unpacks them.

The format is Arrow's for inter-process communication, as a stream or as a file, which is a stream
behind eight bytes and with an index at its end. A message is a mark, its description's length, the
description (a FlatBuffer: `Message.fbs` in Arrow's format specification) and a body. Bodies may be
compressed, buffer by buffer; each buffer then begins with its size when unpacked, 8 bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cloakify.data.naming import shown
from cloakify.errors import DataError

SCHEMA, DICTIONARY, BATCH = 1, 2, 3
"""Kinds of messages."""

_FILE = b"ARROW1\0\0"
_MARK, _END = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"
# Bytes of a description: a batch of a thousand columns needs some tens of thousands.
_LARGEST_DESCRIPTION = 1 << 24
# Buffers of one batch: three for each of many thousand columns.
_MOST_BUFFERS = 1 << 16


@dataclass(frozen=True)
class Message:
    """A message of an Arrow file.

    Attributes
    ----------
    offset
        Where it begins in the file.
    kind
        ``SCHEMA``, ``DICTIONARY`` or ``BATCH``.
    rows
        Of a batch or a dictionary: how many it claims.
    packed, unpacked
        Bytes of its body in the file, and when unpacked.
    """

    offset: int
    kind: int
    rows: int
    packed: int
    unpacked: int


def read_messages(path: Path) -> list[Message]:
    """Walk through an Arrow file from message to message; bodies are passed over.

    Raises
    ------
    DataError
        It is none, damaged, cut short, or holds more behind its end.
    """
    try:
        with open(path, "rb") as file:
            return list(_walk(file))
    except (struct.error, ValueError) as error:
        raise DataError(
            f"{shown(path)} can't be read as an Arrow file ({error}): copy or write it again"
        ) from None
    except OSError as error:
        raise DataError(f"{shown(path)} can't be read ({error.strerror}): check the file") from None


def _walk(file: IO[bytes]) -> Iterator[Message]:
    size = os.fstat(file.fileno()).st_size
    indexed = file.read(len(_FILE)) == _FILE
    offset = len(_FILE) if indexed else 0
    while True:
        file.seek(offset)
        head = file.read(8)
        if head == _END:
            break
        if head[:4] != _MARK or len(head) < 8:
            raise ValueError("it is cut short, or of another format" if offset else "no mark")
        (length,) = struct.unpack("<I", head[4:])
        if length > _LARGEST_DESCRIPTION or offset + 8 + length > size:
            raise ValueError(f"a message claims to be described by {length} bytes")
        message, body = _read_message(file, offset, file.read(length))
        if not 0 <= body <= size - offset - 8 - length:
            raise ValueError(f"a message claims a body of {body} bytes")
        yield message
        offset += 8 + length + body
    if indexed:
        file.seek(-6, os.SEEK_END)
        if file.read() != _FILE[:6]:
            raise ValueError("its end is missing")
    elif offset + len(_END) != size:
        raise ValueError("there is more behind its end")


def _read_message(file: IO[bytes], offset: int, described: bytes) -> tuple[Message, int]:
    """Return a message and how many bytes its body takes; the file's place is its body."""
    start = file.tell()
    root = _root(described)
    kind, body = root.number(1, "B"), root.number(3, "q")
    header = root.table(2)
    if kind not in (SCHEMA, DICTIONARY, BATCH) or header is None:
        raise ValueError(f"a message is of kind {kind}")
    batch = header.table(1) if kind == DICTIONARY else header
    if kind == SCHEMA or batch is None:
        return Message(offset, kind, 0, body, body), body
    unpacked = body
    if batch.table(3) is not None:
        unpacked = sum(_unpacked(file, start, *buffer) for buffer in batch.buffers(2))
    return Message(offset, kind, batch.number(0, "q"), body, unpacked), body


def _unpacked(file: IO[bytes], start: int, offset: int, length: int) -> int:
    """Return what a compressed buffer claims to be when it is unpacked."""
    if not length:
        return 0
    if offset < 0 or length < 8:
        raise ValueError("a buffer has no place")
    file.seek(start + offset)
    (size,) = struct.unpack("<q", file.read(8))
    # −1 stands for a buffer that is stored as it is.
    if size < -1:
        raise ValueError(f"a buffer claims to unpack to {size} bytes")
    return length if size == -1 else int(size)


class _Table:
    """A table of a FlatBuffer: fields by number, found through a list of their places."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        (back,) = struct.unpack_from("<i", data, place)
        self._fields = place - back
        if self._fields < 0:
            raise ValueError("a table leads outside")
        (self._size,) = struct.unpack_from("<H", data, self._fields)

    def _field(self, number: int) -> int | None:
        slot = 4 + 2 * number
        if slot + 2 > self._size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, self._fields + slot)
        return self._place + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """Return a number of the form that `struct` has for it; 0 where it is left out."""
        place = self._field(field)
        return 0 if place is None else int(struct.unpack_from("<" + form, self._data, place)[0])

    def table(self, field: int) -> _Table | None:
        """Return a table that a field leads to."""
        place = self._field(field)
        if place is None:
            return None
        (onward,) = struct.unpack_from("<I", self._data, place)
        return _Table(self._data, place + onward)

    def buffers(self, field: int) -> list[tuple[int, int]]:
        """Return offset and length of each buffer in a list of them."""
        place = self._field(field)
        if place is None:
            return []
        place += struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, place)
        if count > _MOST_BUFFERS:
            raise ValueError(f"a batch claims {count} buffers")
        return [struct.unpack_from("<qq", self._data, place + 4 + 16 * n) for n in range(count)]


def _root(data: bytes) -> _Table:
    return _Table(data, struct.unpack_from("<I", data)[0])
