"""Temporary folders of processes that may be killed: the next one removes what they leave."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"cloakify-(?P<process>\d+)-\w+")


def own_folder() -> Path:
    """Make a temporary folder; remove those whose processes are dead by now.

    Its name is short: sockets lie in it.
    """
    for path in Path(tempfile.gettempdir()).glob("cloakify-*"):
        found = _NAME.fullmatch(path.name)
        if found is not None and not _lives(int(found["process"])):
            # Anybody's that is not ours stays: the system keeps it.
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"cloakify-{os.getpid()}-"))


def _lives(process: int) -> bool:
    """Tell whether there is a process of that number, on systems that can tell."""
    if os.name != "posix":
        return True
    with suppress(PermissionError):
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
