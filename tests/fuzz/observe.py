"""Run the real command, with all that it starts, and see how long it takes and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What no file may make a command pass.
MOST_SECONDS, MOST_BYTES = 60.0, 4 << 30
# Seconds after which nothing is waited for any longer: of computing, and on the clock.
PATIENCE, WAITING = 90.0, 600.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes
    ----------
    code
        Its exit code; negative for a signal.
    errors
        What it wrote to standard error.
    seconds
        How long it took, or how long its processes computed where that is less: on a busy machine
        they wait for others.
    peak
        The most memory that it and its children held at once, in bytes.
    """

    code: int
    errors: str
    seconds: float
    peak: int

    @property
    def beyond(self) -> str | None:
        """Which limit was passed, if one was."""
        if self.peak > MOST_BYTES:
            return f"took {self.peak / 1e9:.1f} GB"
        return f"took {self.seconds:.0f} s" if self.seconds > MOST_SECONDS else None


def observe(command: list[str], folder: Path) -> Outcome:
    """Run ``cloakify`` with these arguments in a folder."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "cloakify", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    peak, worked = 0, 0.0
    while process.poll() is None:
        running = _with_children(process.pid)
        peak = max(peak, sum(map(held, running)))
        worked = max(worked, sum(map(computed, running)))
        passed = time.monotonic() - begun
        if min(worked, passed) > PATIENCE or passed > WAITING:
            for each in running:
                with suppress(ProcessLookupError):
                    os.kill(each, 9)
        time.sleep(0.02)
    assert process.stderr is not None
    errors = process.stderr.read()
    return Outcome(process.returncode, errors, min(worked, time.monotonic() - begun), peak)


def _with_children(process: int) -> list[int]:
    found = [process]
    for each in found:
        try:
            text = Path(f"/proc/{each}/task/{each}/children").read_text()
        except OSError:
            continue
        found += map(int, text.split())
    return found


def computed(process: int) -> float:
    """Return the seconds that a process and those of its children that ended have computed."""
    try:
        # Behind the name in parentheses: fields 14 to 17.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def held(process: int) -> int:
    """Return the memory that a process holds, in bytes."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
