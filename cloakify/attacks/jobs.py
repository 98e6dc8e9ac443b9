"""Deal an attack's jobs to workers, each of which has many under way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import Generic, TypeVar

from cloakify.runtime import Workers

Job = TypeVar("Job")


class Jobs(Generic[Job]):
    """A worker's jobs.

    They are dealt before the work begins: what shares a batch then does not depend on which worker
    was faster, and may decide the last bits of what a model computes.
    """

    def __init__(self, jobs: Iterable[Job], stop: Event) -> None:
        self._waiting = deque(jobs)
        self._stop = stop

    def take(self, room: int) -> list[Job]:
        """Return the next jobs, at most ``room``."""
        return [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs that follow from those taken."""
        self._waiting.extend(jobs)

    def check(self) -> None:
        """Say whether to go on; to be asked between two runs of the model.

        Raises
        ------
        Stopped
            Another worker has failed, or the user wants no more.
        """
        if self._stop.is_set():
            raise Stopped


class Stopped(Exception):
    """No more jobs are to be done."""


def share_jobs(workers: Workers, jobs: Sequence[Job], work: Callable[[Jobs[Job]], None]) -> None:
    """Deal jobs in turn, and have every worker do ``work`` on its own.

    ``work`` takes until it gets none. Where one fails, or the user interrupts, the others stop too.
    """
    stop = Event()
    count = max(1, min(workers.free, len(jobs)))

    def guarded(mine: Jobs[Job]) -> None:
        try:
            work(mine)
        except Stopped:
            pass
        except BaseException:
            stop.set()
            raise

    try:
        workers.map(guarded, [Jobs(jobs[place::count], stop) for place in range(count)])
    except BaseException:
        stop.set()
        raise
