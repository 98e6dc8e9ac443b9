"""Ends a Ray of a process's own when that process is gone, however it went: a process by itself.

    python -I ray_watch.py PROCESS FOLDER

Ray's servers end with the process that started them; their agents find it out after ten seconds,
and then wait for a server that is gone. This process holds the end of a pipe, its standard input,
whose other end the system closes when the process that it watches ends. It then ends what is left
of Ray, and removes its folder. It imports nothing but the standard library, to be there at once.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

# Seconds between two looks at which processes there are: often at first, as Ray starts, and less so
# with the age of the watch, as they stay.
OFTEN, SELDOM, AGE = 0.25, 5.0, 20.0

PROCESSES = Path("/proc")

# When processes were started, by their numbers: a number may be given to another one later.
Started = dict[int, str]


def main() -> None:
    """Watch, and clear away."""
    process, folder = int(sys.argv[1]), sys.argv[2]
    # The terminal's signals are for the process that is watched.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    known: Started = {}
    begun = time.monotonic()
    while True:
        known |= below(process, folder)
        pause = min(SELDOM, OFTEN + (time.monotonic() - begun) / AGE)
        # Nothing is ever written to it.
        if select.select([sys.stdin], [], [], pause)[0]:
            break
    end(known)
    shutil.rmtree(folder, ignore_errors=True)


def below(process: int, folder: str) -> Started:
    """Return the children of a process that name a folder, and all that these have started."""
    parents: dict[int, int] = {}
    started: Started = {}
    for path in PROCESSES.glob("[0-9]*"):
        stat = _stat(int(path.name))
        if stat is not None:
            parents[int(path.name)], started[int(path.name)] = stat
    own = {
        number
        for number, parent in parents.items()
        if parent == process and number != os.getpid() and folder in command(number)
    }
    while more := {number for number, parent in parents.items() if parent in own} - own:
        own |= more
    return {number: started[number] for number in own}


def end(known: Started) -> None:
    """Kill those of the processes that are still there."""
    for number, started in known.items():
        stat = _stat(number)
        if stat is not None and stat[1] == started:
            try:
                os.kill(number, signal.SIGKILL)
            except OSError:
                # It went meanwhile.
                continue


def _stat(number: int) -> tuple[int, str] | None:
    """Return a process's parent, and when it was started (proc_pid_stat(5)); ``None`` if none."""
    try:
        text = (PROCESSES / str(number) / "stat").read_text()
    except (OSError, ValueError):
        return None
    # What stands in parentheses is any text.
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), fields[19]


def command(number: int) -> str:
    """Return a process's command line; nothing where there is none."""
    try:
        return (PROCESSES / str(number) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
