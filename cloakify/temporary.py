"""Temporary folders of processes that may be killed: the next one removes what they leave.

A folder's name tells the process that it is of, and a lock that the process holds on it, which ends
with the process however that ends, tells that it is still there: its number may mean nothing here,
where containers or machines share a folder for temporary files.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NAME = re.compile(r"cloakify-(?P<process>\d+)-\w+")

# As long as this process lives.
_locks: dict[Path, int] = {}


def own_folder() -> Path:
    """Make a temporary folder; remove those whose processes are dead by now.

    Its name is short: sockets lie in it.
    """
    for path in Path(tempfile.gettempdir()).glob("cloakify-*"):
        match = _NAME.fullmatch(path.name)
        if match is not None and not _lives(int(match["process"])):
            # Anybody's that is not ours stays: the system keeps it.
            _remove_unlocked(path)
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"cloakify-{os.getpid()}-"))
        handle = _lock(path, wait=True)
        if handle is not None:
            _locks[path] = handle
        # Between the two another process may have taken it for what a dead one has left.
        if path.is_dir():
            return path
        _release(path)


def remove_folder(path: Path) -> None:
    """Remove one that :func:`own_folder` has made."""
    shutil.rmtree(path, ignore_errors=True)
    _release(path)


def _release(path: Path) -> None:
    handle = _locks.pop(path, None)
    if handle is not None:
        os.close(handle)


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


def _remove_unlocked(path: Path) -> None:
    """Remove a folder that no process anywhere holds a lock on."""
    handle = _lock(path, wait=False)
    if handle is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Lock a folder; return what holds the lock, or ``None`` where it is not to be had."""
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle
