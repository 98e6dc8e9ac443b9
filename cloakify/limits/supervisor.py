"""A process that watches another one at work on a stranger's model, and ends it beyond limits.

The command forks before it has imported anything: the child does the work, the parent waits, reads
which stage the child is at, and looks at its memory and time while a stage lasts. Whatever becomes
of the child, a crash in the runtime's code too, the parent says in one line and ends with a
documented exit code. Signals reach both, or are passed on.

It takes Linux's `/proc`, `fork` and `sigtimedwait`; elsewhere the work is done in one process.
"""

from __future__ import annotations

import math
import os
import signal
import time
from contextlib import suppress

from cloakify.exit_codes import ExitCode
from cloakify.limits import stages

# Seconds between two looks at a child whose stage has limits.
PAUSE = 0.01
# A child that waits for something, rather than computes, may take so many times longer. It waits
# where it computes for less than this share of the time.
PATIENCE, IDLE = 3.0, 0.01

_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP")
# Seconds that a signal to both processes takes to reach the child as well.
_TO_BOTH = 0.05
# For so long the same signal counts as the same.
_RECENT = 0.5


def can_supervise() -> bool:
    """Tell whether this system has what watching takes."""
    return (
        hasattr(os, "fork") and hasattr(signal, "sigtimedwait") and _memory(os.getpid()) is not None
    )


def work_supervised() -> int | None:
    """Fork: return ``None`` in the child, which works, and the exit code in the parent, at its end.

    The parent has said what there was to say by then, and should exit at once.
    """
    # Whoever has started this process may have had it ignored.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    reading, writing = os.pipe()
    own = os.getpid()
    blocked = _signals(*_PASSED_ON, "SIGCHLD", stages.WAKE)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _end_with(own)
        stages.connect(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    os.close(writing)
    os.set_blocking(reading, False)
    return _Watch(child, reading).run(blocked)


class _Watched:
    """A stage that a child is at."""

    def __init__(self, child: int, fields: list[str]) -> None:
        memory, seconds, exit_code, self.path, self.step = fields
        self.memory, self.seconds, self.exit_code = int(memory), float(seconds), int(exit_code)
        self._child = child
        self._since = time.monotonic()
        self._computed = _processor_time(child)
        self._held = _memory(child) or 0

    def passed(self) -> str | None:
        """Say which limit is passed, if one is."""
        grown = (_memory(self._child) or 0) - self._held
        if grown > self.memory:
            return f"more than {self.memory / 1e9:.1f} GB"
        passed = time.monotonic() - self._since
        computed = _processor_time(self._child) - self._computed
        # Of a busy machine a process gets a part only.
        waits = computed < IDLE * passed
        if min(passed, computed) > self.seconds or (waits and passed > PATIENCE * self.seconds):
            return f"more than {self.seconds:.0f} s"
        return None


class _Watch:
    """The parent's part."""

    def __init__(self, child: int, channel: int) -> None:
        self._child = child
        self._channel = channel
        self._rest = b""
        self._at: dict[str, _Watched] = {}
        self._paths: dict[str, None] = {}
        self._met: dict[int, float] = {}

    def run(self, awaited: set[signal.Signals]) -> int:
        """Watch until the child has ended; return the exit code."""
        while True:
            self._read()
            met = signal.sigtimedwait(awaited, PAUSE) if self._at else signal.sigwaitinfo(awaited)
            if met is not None and met.si_signo in _signals(*_PASSED_ON):
                self._pass_on(met.si_signo, by_kernel=met.si_code > 0)
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                self._read()
                return self._ended(os.waitstatus_to_exitcode(status))
            for number, stage in list(self._at.items()):
                passed = stage.passed()
                # What was looked at may have been done behind the stage already.
                self._read()
                if passed is not None and number in self._at:
                    return self._refuse(stage, f"{stage.step} took {passed}")

    def _read(self) -> None:
        """Read what the child has said."""
        try:
            while part := os.read(self._channel, 1 << 16):
                self._rest += part
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            kind, number, *fields = os.fsdecode(line).split(stages.SEPARATOR)
            if kind == "end":
                self._at.pop(number, None)
            elif kind == "met":
                self._met[int(number)] = time.monotonic()
            else:
                stage = self._at[number] = _Watched(self._child, fields)
                if stage.path and stage.exit_code == ExitCode.MODEL:
                    self._paths[stage.path] = None

    def _pass_on(self, number: int, *, by_kernel: bool) -> None:
        """Pass a signal on to the child, unless it has come to both, as from a terminal."""
        if by_kernel:
            return
        # Signals to a whole group, as `timeout` sends them, can't be told from one to this process.
        time.sleep(_TO_BOTH)
        self._read()
        if time.monotonic() - self._met.get(number, -math.inf) > _RECENT:
            os.kill(self._child, number)

    def _refuse(self, stage: _Watched, what: str) -> int:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        _say(f"{self._named(stage)}{what}; --trust works without limits")
        return stage.exit_code

    def _named(self, stage: _Watched) -> str:
        path = stage.path or ", ".join(self._paths)
        return f"{path}: " if path else ""

    def _ended(self, code: int) -> int:
        if code >= 0:
            return code
        name = signal.Signals(-code).name
        if -code in _signals(*_PASSED_ON):
            return ExitCode.INTERRUPTED
        if self._at:
            stage = next(reversed(self._at.values()))
            _say(f"{self._named(stage)}{stage.step} ended in a crash ({name}); the file is damaged")
            return stage.exit_code
        if -code == signal.SIGKILL:
            _say("the run was ended by SIGKILL, most likely for want of memory; lower --batch-size")
        else:
            _say(f"the runtime crashed ({name}); try another --device or --batch-size")
        return ExitCode.DEVICE


def _say(text: str) -> None:
    text = text if text.isprintable() else ascii(text)[1:-1]
    # A closed stream tells nobody.
    with suppress(OSError):
        os.write(2, f"Error: {text}\n".encode(errors="backslashreplace"))


def _signals(*names: str) -> set[signal.Signals]:
    return {getattr(signal, name) for name in names}


def _end_with(parent: int) -> None:
    """Have the system end this process when its parent ends, however that does."""
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _memory(process: int) -> int | None:
    """Return how many bytes a process holds that no file does, on Linux."""
    try:
        with open(f"/proc/{process}/status", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return None
    wanted = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(wanted))


def _processor_time(process: int) -> float:
    """Return the seconds that all threads of a process have computed, on Linux."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # Behind the name in parentheses: user and system time are fields 14 and 15.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
