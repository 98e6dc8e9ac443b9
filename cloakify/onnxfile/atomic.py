"""Files that appear whole or not at all.

A file is made under a name of its own in the folder of its place, and renamed when it is whole. As
long as it is being made it is locked, which ends with the process however that ends: so what a
killed run has left can be told from what a live one is making.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from cloakify.errors import CloakifyError

if sys.platform != "win32":
    import fcntl

PREFIX, SUFFIX = ".cloakify-", ".part"
PART = re.compile(r"\.cloakify-[0-9a-f]{8}\.part")

CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
# Not on every system; Windows would write text without the second.
CREATE |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are renamed
    over ``path``; on any error, Ctrl-C included, the temporary file is removed and ``path`` keeps
    what it held. Errors of the block's own doing, such as a failing read, pass unchanged.

    Raises
    ------
    CloakifyError
        The folder is missing or not writable, or the disk is full.
    """
    with Part(Path(path)) as part:
        yield part.file
        part.finish()
        part.publish(part.target)
        sync_folder(part.target.parent)


class Part:
    """A file in the making, in the folder of its place; removed at the end unless published.

    Parameters
    ----------
    target
        Its place; also how its errors are named.

    Attributes
    ----------
    file
        Where its bytes go.
    path
        Where it is as long as it is not published.
    """

    file: BinaryIO
    path: Path
    _named = False
    _raw: _Raw | None = None
    _lock: int | None = None

    def __init__(self, target: Path) -> None:
        self.target = target
        self._owner = os.getpid()
        with named(target):
            while self._raw is None:
                # Known before there is a file: an interrupt may come at any moment.
                self.path = target.parent / f"{PREFIX}{secrets.token_hex(4)}{SUFFIX}"
                self._named = True
                try:
                    handle = os.open(self.path, CREATE, 0o600)
                except FileExistsError:
                    self._named = False
                    continue
                self._lock = _lock(handle)
                if is_name_of(self.path, handle):
                    raw = _Raw(handle, target)
                    self.file = io.BufferedWriter(raw)
                    self._raw = raw
                else:
                    # Between the two calls another run took it for a leftover.
                    os.close(handle)
                    self._release()

    def finish(self) -> None:
        """Bring the bytes to the disk, and close the file; it stays locked."""
        with named(self.target):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            # Private so far; the result gets the rights any new file would get.
            self.path.chmod(0o666 & ~_umask())

    def publish(self, place: Path) -> None:
        """Rename the finished file, over what is there."""
        with named(self.target):
            os.replace(self.path, place)
        self._named = False

    def discard(self) -> None:
        """Remove the file unless it was published, and end its lock."""
        if self._raw is not None:
            self._raw.abandoned = True
            with suppress(OSError):
                self.file.close()
        # A copy of this process has a copy of this, and no business with the file.
        if self._named and os.getpid() == self._owner:
            with suppress(OSError):
                self.path.unlink()
        # Once: an interrupt within a finalizer would be lost.
        self._named = False
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def __del__(self) -> None:
        # Where an interrupt came before the block was entered.
        self.discard()


class _Raw(io.FileIO):
    """A file whose failing writes name the file that was to be written.

    A full disk shows at whichever write fills the buffer, in the middle of the caller's code, where
    nothing else tells it from an error of a file that the caller reads.
    """

    def __init__(self, handle: int, target: Path) -> None:
        super().__init__(handle, "wb")
        self.target = target
        self.abandoned = False

    def write(self, data, /):  # type: ignore[no-untyped-def]  # the stubs' buffer type is private
        """Write, or raise a CloakifyError."""
        if self.abandoned:
            return memoryview(data).nbytes
        with named(self.target):
            return super().write(data)


def dead_parts(folder: Path) -> Iterator[Path]:
    """Yield files that runs which are dead by now had begun in a folder, each one locked.

    A file that a live run is making is not among them, nor one that is called otherwise.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if PART.fullmatch(entry.name)]:
            if entry.is_file(follow_symlinks=False):
                with _locked(Path(entry.path)) as dead:
                    if dead:
                        yield Path(entry.path)


@contextmanager
def named(target: Path) -> Iterator[None]:
    """Turn an error of the system into one line that names the file that was to be written.

    Raises
    ------
    CloakifyError
        An OSError was raised within.
    """
    try:
        yield
    except OSError as error:
        raise CloakifyError(
            f"{target}: cannot be written ({error.strerror or error}); "
            "what was there before is untouched; free some space or choose another place"
        ) from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


if sys.platform == "win32":

    def _lock(handle: int) -> int | None:
        """Do nothing: Windows lets nobody remove a file that is open."""
        return None

    @contextmanager
    def _locked(path: Path) -> Iterator[bool]:
        yield True

else:

    def lock_within(handle: int, seconds: float) -> bool:
        """Lock an open file or folder; return whether that was to be had in so many seconds.

        Raises
        ------
        OSError
            There are no locks on its file system.
        """
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
                time.sleep(0.05)
            else:
                return True

    def _lock(handle: int) -> int | None:
        """Lock an open file; return what holds the lock, also when the file is closed.

        On a file system without locks there is none, and nothing is ever taken for a leftover.
        """
        # A lock belongs to all copies of a descriptor, and ends with the last one.
        lock = os.dup(handle)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            os.close(lock)
            return None
        return lock

    @contextmanager
    def _locked(path: Path) -> Iterator[bool]:
        """Lock a file, and yield whether that was to be had and the file is still there."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            yield False
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dead = is_name_of(path, handle)
        except OSError:
            dead = False
        try:
            yield dead
        finally:
            os.close(handle)


def is_name_of(path: Path, handle: int) -> bool:
    """Tell whether a name still stands for an open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _umask() -> int:
    """Return the process's file mode mask; the system can only be asked by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
