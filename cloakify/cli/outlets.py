"""Standard output and error that never raise: who reads them may go, and the work goes on."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


class Outlet(io.FileIO):
    """A stream's descriptor; what it does not take is dropped, from then on silently.

    Attributes
    ----------
    failed
        The first error, if there was one.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.failed: OSError | None = None

    def write(self, data, /):  # type: ignore[no-untyped-def]  # the stubs' buffer type is private
        """Write, or drop the bytes."""
        try:
            return super().write(data)
        except OSError as error:
            self.failed = self.failed or error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def open_outlets() -> tuple[Outlet, Outlet]:
    """Put outlets in the place of ``sys.stdout`` and ``sys.stderr``, closed ones too; return both.

    What libraries write to standard error by themselves, of damaged images and the
    like, goes nowhere: an error is one line.
    """
    output, errors_to = Outlet(1), Outlet(os.dup(2))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    for name, outlet in (("stdout", output), ("stderr", errors_to)):
        old = getattr(sys, name)
        if old is not None:
            with suppress(OSError):
                old.flush()
        encoding = "utf-8" if old is None else old.encoding
        # Names that are no text must not end a run.
        errors = "backslashreplace" if old is None or old.errors == "strict" else old.errors
        lines = name == "stderr" or outlet.isatty()
        stream = io.TextIOWrapper(io.BufferedWriter(outlet), encoding, errors, line_buffering=lines)
        setattr(sys, name, stream)
    return output, errors_to
