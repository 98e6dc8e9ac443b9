"""Files of text: in which encoding they are, and what can go wrong, as the line a user is told.

They may be compressed (:mod:`cloakify.data.compressed`), and are unpacked as they are read.

A byte order mark says which encoding it is, and counts before anything else; without one text is
UTF-8, unless the user says otherwise. Of bytes that are no UTF-8 nothing tells whether they are
Windows-1252, another code page or damage, and a wrong guess makes other names of classes: so it is
not made, but told what it would read.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from cloakify.data.compressed import unpacked
from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.printable import one_line

# Of UTF-32 the mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes that are looked at.
_START = 1 << 12
# Characters of a line: more than any row of a table has.
_LONGEST_LINE = 1 << 26
# What spreadsheets save where nobody asks for UTF-8, and bytes to either side that are shown.
_LIKELY, _AROUND = "cp1252", 12


@contextmanager
def opened_text(
    path: Path,
    encoding: str | None = None,
    newline: str | None = None,
    *,
    largest: int = 1 << 31,
    else_do: str = "give a part of it",
) -> Iterator[TextIO]:
    """Open a file of text, which may be compressed.

    Parameters
    ----------
    path
        The file.
    encoding
        Of what has no byte order mark; UTF-8 where it is left out.
    newline
        As for :func:`open`.
    largest
        Bytes of it, unpacked: what is made of text is held in memory.
    else_do
        What to do with a larger one.

    Raises
    ------
    DataError
        It can't be read or unpacked, is too large, is no text in that encoding, or no CSV
        (``csv.Error`` within).
    """
    marked = None
    try:
        with _opened(path, largest, else_do) as file:
            start = file.read(_START)
        marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
        codec = marked or encoding or _plain(path, start)
        with (
            _opened(path, largest, else_do) as file,
            io.TextIOWrapper(file, codec, newline=newline) as text,
        ):
            yield text
    except UnicodeDecodeError as error:
        raise _no_text(path, error, marked, encoding) from None
    except UnicodeError as error:
        raise DataError(
            f"{shown(path)} is no text in {encoding} ({shown(one_line(error))}): mend it"
        ) from None
    except csv.Error as error:
        raise DataError(f"{shown(path)} is no CSV ({error}): mend it") from None
    except OSError as error:
        raise DataError(f"{shown(path)} can't be read ({error.strerror}): check the file") from None


def lines_of(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of a file of text; DataError where one is longer than any is.

    A file of a few kilobytes can unpack to a line of gigabytes.
    """
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise DataError(
                f"{shown(path)} has a line of more than {_LONGEST_LINE >> 20} million characters: "
                "is it a table?"
            )
        yield line


class _NoLarger(io.RawIOBase):
    """A stream that ends in a DataError behind so many bytes."""

    def __init__(self, file: BinaryIO, largest: int, error: DataError) -> None:
        self._file, self._left, self._error = file, largest, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._left -= count
        if self._left < 0:
            raise self._error
        return count


@contextmanager
def _opened(path: Path, largest: int, else_do: str) -> Iterator[BinaryIO]:
    """Open what a file holds, or unpacks to; DataError where that is more than ``largest``."""
    with unpacked(path) as file:
        if file is not None:
            error = DataError(
                f"{shown(path)} unpacks to more than {largest / 1e9:.1f} GB: {else_do}"
            )
            yield io.BufferedReader(_NoLarger(file, largest, error))
            return
    with open(path, "rb") as plain:
        size = os.fstat(plain.fileno()).st_size
        if size > largest:
            raise DataError(f"{shown(path)} is {size / 1e9:.1f} GB large: {else_do}")
        yield plain


def _plain(path: Path, start: bytes) -> str:
    """Return UTF-8 as the encoding of a file, unless it begins as no text does."""
    if b"\0" in start:
        # Of letters that are in ASCII every second byte is 0.
        likely = "le" if start[1::2].count(0) >= start[::2].count(0) else "be"
        raise DataError(
            f"{shown(path)} holds zeros, which text in UTF-8 does not: if it is UTF-16 without a "
            f"byte order mark, pass --encoding utf-16-{likely}"
        )
    return "utf-8"


def _no_text(
    path: Path, error: UnicodeDecodeError, marked: str | None, given: str | None
) -> DataError:
    """Return the error for bytes that are no text, with what they are in the likeliest encoding."""
    if marked is not None:
        return DataError(
            f"{shown(path)} is no text in {error.encoding}, as its byte order mark says "
            f"({error.reason}): it is damaged or cut short, copy or save it again"
        )
    if given is not None:
        return DataError(
            f"{shown(path)} is no text in {error.encoding} ({error.reason}): pass the encoding "
            "that it is in by --encoding"
        )
    around = error.object[max(0, error.start - _AROUND) : error.start + _AROUND]
    try:
        read = repr(shown(" ".join(around.decode(_LIKELY).split())))
    except UnicodeDecodeError:
        return DataError(
            f"{shown(path)} is no text in UTF-8: pass the encoding that it is in by --encoding, "
            "or save it as UTF-8"
        )
    return DataError(
        f"{shown(path)} is no text in UTF-8: in Windows-1252 it reads … {read} …; if that is "
        f"right pass --encoding {_LIKELY}, else the encoding that it is in, or save it as UTF-8"
    )
