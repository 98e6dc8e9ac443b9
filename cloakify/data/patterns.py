"""Paths that stand for many: ``shards/{000..127}.tar`` and ``images/*/*.jpg``.

Braces hold a range of whole numbers, with leading zeros where an end has them, or
alternatives: ``{train,val}``. What is left is a pattern of the shell's, ``**`` for folders at any
depth. A path that exists is no pattern, whatever its name.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from cloakify.data.names import Names, Places, in_order
from cloakify.data.naming import shown, some
from cloakify.errors import DataError

# Paths that braces may stand for, and groups of braces in one.
_MOST, _MOST_GROUPS = 1 << 20, 16

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def is_pattern(path: Path) -> bool:
    """Tell whether a path stands for others; it may still be that there are none."""
    text = str(path)
    return not os.path.lexists(path) and (glob.has_magic(text) or len(_parts(text)) > 1)


def matching(path: Path) -> Sequence[str]:
    """Return the files and folders that a pattern stands for, in order, each once.

    Raises
    ------
    DataError
        There is none, one that braces name is missing, or they name too many.
    """
    texts = written_out(str(path))
    missing = [text for text in texts if not glob.has_magic(text) and not os.path.exists(text)]
    if missing:
        raise DataError(
            f"{shown(path)}: {len(missing)} of {len(texts)} files that it names can't be found "
            f"({some(missing)}): check the numbers"
        )
    names = Names()
    for text in texts:
        names.extend(in_order(glob.iglob(text, recursive=True)) if glob.has_magic(text) else [text])
    again = set(Places(names).again().tolist())
    if again:
        names = Names(name for place, name in enumerate(names) if place not in again)
    if not names:
        raise DataError(f"{shown(path)} matches no file: check the pattern, and keep it in quotes")
    return names


def root(path: Path) -> Path:
    """Return the folder that a pattern starts from: that above its first part with a sign."""
    parts = []
    for part in path.parts[:-1]:
        if glob.has_magic(part) or "{" in part:
            break
        parts.append(part)
    return Path(*parts)


def _parts(text: str) -> list[list[str]]:
    """Return what may stand in each part of a path: what is written there, or a group's choices.

    Braces without a range or a comma are no group.

    Raises
    ------
    DataError
        That is more than is read.
    """
    parts: list[list[str]] = []
    end = 0
    total = 1
    for match in _BRACES.finditer(text):
        inner = match[1]
        span = _RANGE.fullmatch(inner)
        if span is None and "," not in inner:
            continue
        total *= abs(int(span[2]) - int(span[1])) + 1 if span else inner.count(",") + 1
        if total > _MOST or len(parts) == 2 * _MOST_GROUPS:
            raise DataError(f"{shown(text)} names more than {_MOST} files: give fewer")
        parts.append([text[end : match.start()]])
        parts.append(_numbers(span[1], span[2]) if span else inner.split(","))
        end = match.end()
    return [*parts, [text[end:]]]


def written_out(text: str) -> list[str]:
    """Write braces out, the last of several running fastest, as shells do.

    Raises
    ------
    DataError
        They stand for too many.
    """
    return ["".join(chosen) for chosen in product(*_parts(text))]


def _numbers(first: str, last: str) -> list[str]:
    zeros = any(len(end) > 1 and end.startswith("0") for end in (first, last))
    width = max(len(first), len(last)) if zeros else 0
    low, high = int(first), int(last)
    step = 1 if low <= high else -1
    return [f"{number:0{width}d}" for number in range(low, high + step, step)]
