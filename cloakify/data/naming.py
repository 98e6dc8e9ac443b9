"""File names in messages: on one line whatever they contain."""

from __future__ import annotations

from pathlib import Path

from cloakify.printable import printable


def shown(name: str | Path) -> str:
    """``name`` as it stands where it can be printed; line breaks and odd bytes as escapes."""
    return printable(str(name))


def some(names: list[str], most: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    listed = ", ".join(map(shown, names[:most]))
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
