"""The errors that cloakify raises on purpose, each with the exit code of the command line.

A message is one line that says what was seen, where, and what to do about it. Anything else that
escapes cloakify is a bug.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cloakify.exit_codes import ExitCode
from cloakify.printable import printable


class CloakifyError(Exception):
    """Base of every error below; also a file that can't be written (disk full, no permission)."""

    exit_code = ExitCode.REFUSED

    def __str__(self) -> str:
        """Return the message; it may hold names from strangers' files, so it is made printable."""
        return printable(super().__str__())


class GateError(CloakifyError):
    """A gate was not met: a required gain was missed, or `verify` found another change."""


class UsageError(CloakifyError):
    """Options that contradict each other, or a value out of its range."""

    exit_code = ExitCode.USAGE


class ModelError(CloakifyError):
    """The file is no ONNX model, is broken, or is no classifier that can be hardened."""

    exit_code = ExitCode.MODEL


class HeadError(ModelError):
    """No linear layer in front of the logits, or more than one that could be it.

    Usually an unusual ending; `--head NODE` names the layer to take.
    """


class NoClassifierError(HeadError):
    """The model answers with something else than one class a sample, and the graph says so."""


class UnsupportedOperatorError(ModelError):
    """No gradient rule for an operator on the way from the logits back to the input.

    `--attack square` needs no gradient and works all the same.
    """


class NoGradientError(ModelError):
    """The logits are piecewise constant in the input: no gradient reaches it.

    Usually rounding or a comparison that everything passes through. An attack that follows
    gradients says nothing about such a model; `--attack square` does.
    """


class DataError(CloakifyError):
    """The data can't be read, or does not fit the model."""

    exit_code = ExitCode.DATA


class DeviceError(CloakifyError):
    """The device or the runtime asked for can't be had."""

    exit_code = ExitCode.DEVICE


class OutOfMemoryError(DeviceError):
    """Memory does not suffice, on the device or on the host; smaller batches may do."""


class PartDone(Exception):
    """A part of the work is done, and kept for whoever puts the parts together: no error.

    Attributes
    ----------
    done, chunks
        How many chunks of what was begun are done, by this run or others, and of how many.
    """

    def __init__(self, done: int, chunks: int) -> None:
        left = chunks - done
        then = f"{left} are left to other parts" if left else "run it without --shard to report"
        super().__init__(f"{done} of {chunks} chunks are done; {then}")
        self.done, self.chunks = done, chunks


@contextmanager
def about(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name a model in those errors of the block that do not name it themselves."""
    try:
        yield
    except ModelError as error:
        if os.fspath(path) not in str(error):
            error.args = (f"{os.fspath(path)}: {error}",)
        raise
