"""File names in messages: on one line whatever they contain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloakify.printable import printable


def shown(name: str | Path) -> str:
    """``name`` as it stands where it can be printed; line breaks and odd bytes as escapes."""
    return printable(str(name))


def some(names: Sequence[str], most: int = 3, count: int | None = None) -> str:
    """The first few of many names, and how many more there are, of ``count`` where that is told."""
    listed = names[:most]
    more = (len(names) if count is None else count) - len(listed)
    return ", ".join(map(shown, listed)) + (f" and {more} more" if more else "")
