"""Where files may be written: looked at before long work starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cloakify.errors import CloakifyError, UsageError
from cloakify.onnxfile.publish import remove_leftovers


def check_places(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse places that can't be written to, or that hold something else; and clear them up.

    What runs that are dead by now have left in the outputs' folders is removed.

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
        A folder is missing, an output is no regular file, lies in a folder that is read, or is an
        input or another output.
    CloakifyError
        A folder can't be written to.
    """
    for number, output in enumerate(outputs):
        try:
            _check(output, outputs[:number], inputs)
        except (OSError, ValueError, RuntimeError) as error:
            # Names are anybody's: too long, with a zero byte, through a loop of links.
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"{output}: can't be written to ({reason})") from error
    for folder in {output.parent.resolve() for output in outputs}:
        remove_leftovers(folder)


def _check(output: Path, others: Sequence[Path], inputs: Sequence[Path]) -> None:
    if not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {str(output.parent)!r}")
    with suppress(FileNotFoundError):
        # Names that no file can have fail here.
        os.lstat(output)
    # A device or a pipe would be replaced by a file, for everybody who uses it.
    if output.exists() and not output.is_file():
        raise UsageError(f"{output}: is no regular file, and would be replaced by one")
    for other in inputs:
        if _same(output, other):
            raise UsageError(f"{output}: is read, too; choose another output")
        if other.is_dir() and _place(output).is_relative_to(other.resolve()):
            raise UsageError(f"{output}: lies in {other}, which is read; choose another place")
    for other in others:
        if _same(output, other):
            raise UsageError(f"{output}: two outputs would be written there; choose another")
    # Files are made beside their place and moved there.
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise CloakifyError(f"{output}: the folder {str(output.parent)!r} can't be written to")


def _same(first: Path, second: Path) -> bool:
    if first.exists() and second.exists():
        return first.samefile(second)
    return _place(first) == _place(second)


def _place(path: Path) -> Path:
    """Return where a file is written: a link to another place is replaced, not followed."""
    return path.parent.resolve() / path.name
