"""Names of what yields samples: ``script.py:function`` or ``package.module:function``."""

from __future__ import annotations

import os
import re

_PROGRAM = re.compile(r"(?P<file>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)", re.DOTALL)


def split_program(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Return the script or module, and the name in it; ``None`` for a path of another kind.

    A path that exists is what lies there, whatever its name.
    """
    match = _PROGRAM.fullmatch(os.fspath(path))
    if match is None or os.path.lexists(path):
        return None
    return match["file"], match["name"]


def names_module(path: str | os.PathLike[str]) -> bool:
    """Tell whether it is a module that is named, which lies in no folder."""
    parts = split_program(path)
    return parts is not None and not parts[0].endswith(".py")
