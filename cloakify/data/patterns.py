"""Paths that stand for many: ``shards/{000..127}.tar`` and ``images/*/*.jpg``.

Braces hold a range of whole numbers, with leading zeros where an end has them, or
alternatives: ``{train,val}``. What is left is a pattern of the shell's, ``**`` for folders at any
depth. A path that exists is no pattern, whatever its name.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from cloakify.data.naming import shown, some
from cloakify.errors import DataError

# Paths that braces may stand for, and groups of braces in one.
_MOST, _MOST_GROUPS = 1 << 20, 16

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def is_pattern(path: Path) -> bool:
    """Tell whether a path stands for others; it may still be that there are none."""
    text = str(path)
    return not os.path.lexists(path) and (glob.has_magic(text) or bool(_groups(text)))


def matching(path: Path) -> list[Path]:
    """Return the files and folders that a pattern stands for, in order, each once.

    Raises
    ------
    DataError
        There is none, one that braces name is missing, or they name too many.
    """
    found: dict[Path, None] = {}
    missing = []
    for text in _expanded(str(path)):
        if glob.has_magic(text):
            found.update(dict.fromkeys(map(Path, sorted(glob.iglob(text, recursive=True)))))
        elif os.path.exists(text):
            found[Path(text)] = None
        else:
            missing.append(text)
    if missing:
        raise DataError(
            f"{shown(path)}: {len(missing)} of the files that it names are not there "
            f"({some(missing)}): check the numbers"
        )
    if not found:
        raise DataError(f"{shown(path)} matches no file: check the pattern, and keep it in quotes")
    return list(found)


def root(path: Path) -> Path:
    """Return the folder that a pattern starts from: that above its first part with a sign."""
    parts = []
    for part in path.parts[:-1]:
        if glob.has_magic(part) or "{" in part:
            break
        parts.append(part)
    return Path(*parts)


def _groups(text: str) -> list[list[str]]:
    """Return what each group of braces stands for; braces without a range or a comma are none.

    Raises
    ------
    DataError
        That is more than is read.
    """
    groups: list[list[str]] = []
    total = 1
    for inner in _BRACES.findall(text):
        span = _RANGE.fullmatch(inner)
        if span is None and "," not in inner:
            continue
        count = abs(int(span[2]) - int(span[1])) + 1 if span else inner.count(",") + 1
        total *= count
        if total > _MOST or len(groups) == _MOST_GROUPS:
            raise DataError(f"{shown(text)} names more than {_MOST} files: give fewer")
        groups.append(_numbers(span[1], span[2]) if span else inner.split(","))
    return groups


def _expanded(text: str) -> list[str]:
    """Write braces out, the last of several running fastest, as shells do."""
    texts = [""]
    end = 0
    groups = iter(_groups(text))
    for match in _BRACES.finditer(text):
        if _RANGE.fullmatch(match[1]) is None and "," not in match[1]:
            continue
        before, end = text[end : match.start()], match.end()
        choices = next(groups)
        texts = [f"{start}{before}{choice}" for start in texts for choice in choices]
    return [start + text[end:] for start in texts]


def _numbers(first: str, last: str) -> list[str]:
    zeros = any(len(end) > 1 and end.startswith("0") for end in (first, last))
    width = max(len(first), len(last)) if zeros else 0
    low, high = int(first), int(last)
    step = 1 if low <= high else -1
    return [f"{number:0{width}d}" for number in range(low, high + step, step)]
