"""This process does the work itself: one chunk after the other, the next ones being read."""

from __future__ import annotations

from collections.abc import Iterator

from cloakify.data import Batch
from cloakify.data.prefetch import prefetch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, S, Task, Tell


class LocalEngine(Engine[S]):
    """Does tasks here.

    Parameters
    ----------
    subject
        What they are done on.
    """

    def __init__(self, subject: S) -> None:
        self._subject = subject

    def results(self, job: Job[S], tell: Tell) -> Iterator[tuple[int, Arrays]]:
        """See :meth:`Engine.results`."""
        for number, batch in enumerate(prefetch(self._subject.load, job.chunks)):
            yield number, run_chunk(job.task, self._subject, batch, tell)


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
