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
    def map(self, job: Job[S], tell: Tell) -> Iterator[Arrays]:
        """Yield what the task makes of each chunk, in the order of the chunks.

        Parameters
        ----------
        tell
            Told of amounts of work as they are done; each chunk's :meth:`Task.work` in all.
        """

    def begin(self, jobs: Sequence[Job[S]]) -> None:
        """Be told of jobs that will be asked for, none of which waits for another."""
