"""Stretches of work on a stranger's model that memory and time are bounded in.

A file of a few hundred bytes can ask for terabytes, or for an endless loop, within code that can't
be interrupted: onnx's, graphsurgeon's and the runtime's. So the command works in a process of its
own (:mod:`cloakify.limits.supervisor`), and tells the one that watches it when such a stretch
begins and ends. Nothing is said, and nothing bounded, where nobody watches.

Nothing is imported here that takes time: the command says what it is before it imports anything.
"""

from __future__ import annotations

import os
import signal
from itertools import count

from cloakify.exit_codes import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

# Bytes, and seconds, that every model may take, and besides for each byte of its files. Weights are
# held by a message, by the runtime and by a copy of either while they are handed over.
MEMORY, MEMORY_PER_BYTE = 2 << 30, 5
SECONDS, SECONDS_PER_BYTE = 10.0, 40e-9
# To list a million images takes seconds, to find as many in a tar file a minute; that one is large.
DATA_SECONDS = 20.0

# And for each byte of samples that it computes on: what it makes of them, and how long that takes.
MEMORY_PER_FED, SECONDS_PER_FED = 4000, 1 / (64 << 10)

# What parts the fields of a message; no path holds it.
SEPARATOR = "\0"

# Tells the supervisor that there is something to read.
WAKE = "SIGUSR1"

# Characters of a path that are told, so that a message stays below what a pipe takes whole.
_LONGEST = 800

_numbers = count()
_channel: int | None = None
_watcher = 0


def connect(channel: int) -> None:
    """Tell of stages by a pipe from now on, to the parent process."""
    global _channel, _watcher
    _channel, _watcher = channel, os.getppid()


def tell_signal(number: int) -> None:
    """Tell that a signal has come, so that it is not passed on once more."""
    _tell(["met", str(number)])


class Stage:
    """A stretch of work with limits; a context.

    Parameters
    ----------
    step
        What is done, as the subject of "took more than 2 GB".
    size
        Bytes of the files, or of the weights, that are worked on.
    fed
        Bytes of the samples that are computed on.
    path
        The model, or the data, to name; else the models that were named before.
    exit_code
        Of the error if a limit is passed.
    seconds, memory
        Allowed besides what the sizes allow; bytes.
    """

    def __init__(
        self,
        step: str,
        size: int = 0,
        fed: int = 0,
        path: str | os.PathLike[str] = "",
        exit_code: int = ExitCode.MODEL,
        seconds: float = SECONDS,
        memory: int = MEMORY,
    ) -> None:
        memory += MEMORY_PER_BYTE * size + MEMORY_PER_FED * fed
        time = seconds + SECONDS_PER_BYTE * size + SECONDS_PER_FED * fed
        name = os.fspath(path)[-_LONGEST:]
        self._fields = [str(memory), str(time), str(exit_code), name, step]
        self._number = ""

    def __enter__(self) -> None:
        self._number = str(next(_numbers))
        _tell(["begin", self._number, *self._fields])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _tell(["end", self._number])


def opening(*paths: str | os.PathLike[str]) -> Stage:
    """Return the stage in which models are opened and looked at, but not run."""
    named = ", ".join(os.fspath(path) for path in paths)
    return Stage("opening it" if len(paths) == 1 else "opening them", stored(paths), path=named)


def comparing(paths: Iterable[str | os.PathLike[str]]) -> Stage:
    """Return the stage in which models and their sidecars are compared by what lies on disk."""
    return Stage("comparing them", stored(paths))


def reading(path: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]] = ()) -> Stage:
    """Return the stage in which data are opened, and their first sample is read.

    ``files`` are those that a path stands for, where it is no file itself.
    """
    size = stored([path, *files])
    return Stage("reading it", size, path=path, exit_code=ExitCode.DATA, seconds=DATA_SECONDS)


def stored(paths: Iterable[str | os.PathLike[str]]) -> int:
    """Return how many bytes of some files are on disk, holes left out; those missing count as 0."""
    total = 0
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            # Names are anybody's: one with a zero byte is no file's.
            continue
        # Blocks are of 512 bytes whatever the file system's are.
        total += min(status.st_size, 512 * getattr(status, "st_blocks", status.st_size))
    return total


def _tell(fields: list[str]) -> None:
    if _channel is None or os.getppid() != _watcher:
        return
    line = SEPARATOR.join(fields).replace("\n", " ") + "\n"
    os.write(_channel, os.fsencode(line))
    os.kill(_watcher, getattr(signal, WAKE))
