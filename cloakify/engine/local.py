"""This process does the work itself: one chunk after the other, the next ones being read."""

from __future__ import annotations

from collections.abc import Iterator

from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.reading import Reader
from cloakify.engine.task import Arrays, Job, S, Task, Tell

# Chunks that are read ahead.
DEPTH = 2


class LocalEngine(Engine[S]):
    """Does tasks here.

    Parameters
    ----------
    subject
        What they are done on.
    """

    def __init__(self, subject: S) -> None:
        self._subject = subject
        self._reader = Reader(subject.load)

    def results(self, job: Job[S], tell: Tell) -> Iterator[tuple[int, Arrays]]:
        """See :meth:`Engine.results`."""
        through = False
        try:
            for number, chunk in enumerate(job.chunks):
                batch = self._reader.read(chunk, job.following(number, DEPTH))
                yield number, run_chunk(job.task, self._subject, batch, tell)
            through = True
        finally:
            if not through:
                self._reader.forget()


def run_chunk(task: Task[S], subject: S, batch: Batch, tell: Tell) -> Arrays:
    """Do a task on a chunk; see that all of its work is told of, and no more."""
    left = task.work(batch.index)

    def told(amount: int) -> None:
        nonlocal left
        amount = min(amount, left)
        left -= amount
        tell(amount)

    made = task.run(subject, batch, told)
    tell(left)
    return made
