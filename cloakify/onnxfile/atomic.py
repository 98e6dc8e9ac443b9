"""Files that appear whole or not at all."""

from __future__ import annotations

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
    what it held.

    Raises
    ------
    CloakifyError
        The folder is missing or not writable, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(".part", f".{target.name}.", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; the result gets the rights any new file would get.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise CloakifyError(
            f"{target}: cannot be written ({error.strerror or error}); "
            "nothing was left there, free some space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's file mode mask; the system can only be asked by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
