"""Who does tasks on chunks of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic

from cloakify.engine.task import Arrays, Job, S, Tell


class Engine(ABC, Generic[S]):
    """Does tasks on chunks of one subject's samples.

    Whoever does it and in whatever order, what comes out is the same, in the order of the chunks.
    """

    @abstractmethod
    def results(self, job: Job[S], tell: Tell) -> Iterator[tuple[int, Arrays]]:
        """Yield what the task makes of each chunk with the chunk's number, as it is done.

        Parameters
        ----------
        tell
            Told of amounts of work as they are done; each chunk's :meth:`Task.work` in all.
        """

    @property
    def width(self) -> int:
        """Into how many chunks to cut work that all else waits for; nothing else may hang on it."""
        return 1

    def map(self, job: Job[S], tell: Tell) -> Iterator[Arrays]:
        """Yield the :meth:`results` in the order of the chunks."""
        early: dict[int, Arrays] = {}
        due = 0
        for number, made in self.results(job, tell):
            early[number] = made
            while due in early:
                yield early.pop(due)
                due += 1

    def begin(self, jobs: Sequence[Job[S]]) -> None:
        """Be told of all jobs that there will be, none of which waits for another."""

    def forget(self, jobs: Sequence[Job[S]]) -> None:
        """Be told that nobody will ask for what some jobs make, begun or not."""

    def finish(self) -> None:
        """Be told that all was done that there was."""
