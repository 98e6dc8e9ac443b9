"""File names in messages: on one line whatever they contain, and as the user knows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloakify.printable import printable

# What copies of files that lie elsewhere are called, by the folders that they are in.
_ELSEWHERE: dict[str, str] = {}


def call(folder: Path, name: str) -> None:
    """Have what lies in a folder go by another name: that of what it is a copy of."""
    _ELSEWHERE[str(folder)] = name


def told(name: str | Path) -> str:
    """``name``, or what it is a copy of."""
    text = str(name)
    for folder, other in _ELSEWHERE.items():
        if folder in text:
            text = text.replace(folder, other)
    return text


def shown(name: str | Path) -> str:
    """``name`` as it stands where it can be printed; line breaks and odd bytes as escapes."""
    return printable(told(name))


def some(names: Sequence[str], most: int = 3, count: int | None = None) -> str:
    """The first few of many names, and how many more there are, of ``count`` where that is told."""
    listed = names[:most]
    more = (len(names) if count is None else count) - len(listed)
    return ", ".join(map(shown, listed)) + (f" and {more} more" if more else "")
