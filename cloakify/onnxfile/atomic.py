"""Files that appear whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cloakify.errors import CloakifyError


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
    target = Path(path)
    with _named(target):
        handle, name = tempfile.mkstemp(".part", f".{target.name}.", dir=target.parent)
    temporary: Path | None = Path(name)
    raw = _Raw(handle, target)
    file = io.BufferedWriter(raw)
    try:
        yield file
        with _named(target):
            file.flush()
            os.fsync(handle)
            file.close()
            # mkstemp makes the file private; the result gets the rights any new file would get.
            Path(name).chmod(0o666 & ~_umask())
            os.replace(name, target)
            temporary = None
    finally:
        if temporary is not None:
            raw.abandoned = True
            file.close()
            temporary.unlink(missing_ok=True)


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
        with _named(self.target):
            return super().write(data)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CloakifyError(
            f"{target}: cannot be written ({error.strerror or error}); "
            "what was there before is untouched; free some space or choose another place"
        ) from error


def _umask() -> int:
    """Return the process's file mode mask; the system can only be asked by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
