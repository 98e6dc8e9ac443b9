"""What the command is to the system: a process with signals, streams and an exit code.

Nothing is imported here that takes time before signals are met.
"""

from __future__ import annotations

import os
import signal
import sys

from cloakify.exit_codes import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import NoReturn

# The option that has all work done in one process.
TRUST = "--trust"

# Where standard error goes.
_errors = 2

# The signal that has raised KeyboardInterrupt last, if one has.
_met: int | None = None

# Seconds after which an interruption that was lost comes again.
AGAIN = 0.05

# Batch systems end a job by SIGTERM, a closed terminal by SIGHUP. What is begun is cleaned up
# behind them as behind Ctrl-C.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    global _errors
    _answer_at_once()
    _fill_descriptors()
    from cloakify.limits.supervisor import can_supervise, work_supervised

    if TRUST not in (sys.argv[1:] if arguments is None else arguments) and can_supervise():
        ended = work_supervised()
        if ended is not None:
            os._exit(ended)
    import errno

    from cloakify.cli.main import run
    from cloakify.cli.outlets import open_outlets

    output, errors = open_outlets()
    _errors = errors.fileno()
    try:
        code = run(arguments)
    except KeyboardInterrupt:
        # Once more, while the first one was being cleaned up behind.
        _stop()
    # All is written, or cleaned up behind.
    _answer_at_once()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    failed = output.failed
    # That the reader of our output has gone (`| head`) is no failure.
    if failed is not None and failed.errno != errno.EPIPE:
        print(f"Error: the output can't be written ({failed.strerror})", file=sys.stderr)
        code = code or 1
    if code == ExitCode.INTERRUPTED:
        # Threads may be in the middle of long runs that nobody waits for any more.
        os._exit(code)
    sys.exit(code)


def begin_work() -> None:
    """From here on let a signal raise KeyboardInterrupt, for what is begun to be cleaned up behind.

    To be called when everything is imported: within the imports of large packages it may be taken
    for a failure, or be lost. Does nothing in a process that is not the command's.
    """
    for number in _answered():
        if signal.getsignal(number) is _stop:
            signal.signal(number, _interrupt)
            sys.unraisablehook = _unraised


def was_interrupted() -> bool:
    """Tell whether a signal has raised KeyboardInterrupt.

    What ends a run after that may be another error: compiled code that is being imported makes an
    ImportError of it.
    """
    return _met is not None


def _fill_descriptors() -> None:
    """Open standard streams that are closed, to nowhere.

    The next file or pipe that is opened would take their descriptors, and what is printed would go
    into that.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _answer_at_once() -> None:
    for number in _answered():
        signal.signal(number, _stop)


def _answered() -> list[signal.Signals]:
    """Return the signals that are not to be ignored, as under nohup."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    global _met
    from cloakify.limits.stages import tell_signal

    _met = number
    tell_signal(number)
    raise KeyboardInterrupt


def _unraised(lost: sys.UnraisableHookArgs) -> None:
    """Interrupt again where an interruption came while errors are ignored, else report the error.

    So it is in a finaliser, and in the callback of a weak reference.
    """
    if lost.exc_type is not KeyboardInterrupt or _met is None:
        sys.__unraisablehook__(lost)
        return
    from threading import Timer

    # Not at once: it would be raised in here. The same one: another may be ignored.
    again = Timer(AGAIN, signal.raise_signal, [_met])
    again.daemon = True
    again.start()


def _stop(number: int = 0, frame: FrameType | None = None) -> NoReturn:
    """End the process while nothing is begun: no file, no thread whose work matters."""
    # Not by way of a stream: whatever holds its lock may be what was interrupted.
    os.write(_errors, b"Interrupted; nothing was left half written.\n")
    os._exit(ExitCode.INTERRUPTED)
