"""Where files may be written: looked at before long work starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cloakify.errors import CloakifyError, UsageError


def check_places(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse places that can't be written to, or that hold something else.

    Parameters
    ----------
    outputs
        Files to write, each for a content of its own. They may be there already: regular files are
        replaced.
    inputs
        Files and folders that are read.

    Raises
    ------
    UsageError
        A folder is missing, an output is no regular file, or it is an input or another output.
    CloakifyError
        A folder can't be written to.
    """
    for number, output in enumerate(outputs):
        if not output.parent.is_dir():
            raise UsageError(f"{output}: there is no folder {str(output.parent)!r}")
        # A device or a pipe would be replaced by a file, for everybody who uses it.
        if output.exists() and not output.is_file():
            raise UsageError(f"{output}: is no regular file, and would be replaced by one")
        for other in inputs:
            if _same(output, other):
                raise UsageError(f"{output}: is read, too; choose another output")
        for other in outputs[:number]:
            if _same(output, other):
                raise UsageError(f"{output}: two outputs would be written there; choose another")
        # Files are made beside their place and moved there.
        if not os.access(output.parent, os.W_OK | os.X_OK):
            raise CloakifyError(f"{output}: the folder {str(output.parent)!r} can't be written to")


def _same(first: Path, second: Path) -> bool:
    if first.exists() and second.exists():
        return first.samefile(second)
    return first.resolve() == second.resolve()
