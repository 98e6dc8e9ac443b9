"""One run at a time for one output.

Of two runs that write the same file the later would replace what the earlier has told of, in its
report and on the screen. So a run claims its outputs before its work: a file beside each, called
after it and empty, is locked as long as the run lives. A killed run's is nobody's, and goes with
the next run, as everything that was begun does.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cloakify.errors import UsageError
from cloakify.onnxfile.atomic import PREFIX, SUFFIX, is_name_of

if sys.platform != "win32":
    from cloakify.onnxfile.atomic import lock_within

# Seconds in which another run that looks for leftovers has let go of a file again.
PATIENCE = 1.0

OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def claimed(outputs: Sequence[Path]) -> Iterator[None]:
    """Keep other runs from writing these files as long as the block lasts.

    On file systems without locks, and on Windows, nobody is kept from anything.

    Raises
    ------
    UsageError
        Another run is about to write one.
    """
    with ExitStack() as stack:
        for output in outputs:
            stack.enter_context(_claim(output))
        yield


def _mark(output: Path) -> Path:
    """Return the file that stands for the claim on an output, whatever the way to its folder."""
    name = hashlib.sha256(os.fsencode(output.name)).hexdigest()[:8]
    return output.parent.resolve() / f"{PREFIX}{name}{SUFFIX}"


if sys.platform == "win32":

    @contextmanager
    def _claim(output: Path) -> Iterator[None]:
        yield

else:

    @contextmanager
    def _claim(output: Path) -> Iterator[None]:
        mark = _mark(output)
        handle = _locked(mark, output)
        if handle is None:
            yield
            return
        owner = os.getpid()
        try:
            yield
        finally:
            # While the lock is held: afterwards it may be another run's. A copy of this process
            # has no business with it.
            if os.getpid() == owner:
                with suppress(OSError):
                    mark.unlink()
            os.close(handle)

    def _locked(mark: Path, output: Path) -> int | None:
        """Lock the file of a claim; return what holds the lock, ``None`` where there are none."""
        while True:
            try:
                handle = os.open(mark, OPEN, 0o600)
            except OSError:
                # Whoever writes there says so in a line.
                return None
            try:
                alone = lock_within(handle, PATIENCE)
            except OSError:
                os.close(handle)
                with suppress(OSError):
                    mark.unlink()
                return None
            if alone and is_name_of(mark, handle):
                return handle
            os.close(handle)
            if not alone:
                raise UsageError(
                    f"{output}: another run of cloakify is about to write it; wait until that has "
                    "ended, or choose another output"
                )
            # Between the two calls it was removed: its run has ended.
