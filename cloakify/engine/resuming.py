"""Keep what another engine makes of chunks, and leave to it only what is not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from cloakify.engine.chunk_store import ChunkStore
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, S, Tell, untold
from cloakify.errors import PartDone


class ResumingEngine(Engine[S]):
    """Goes on from the chunks that a folder holds, or does a part of them and stops.

    Parameters
    ----------
    inner
        Does the work.
    store
        Where it is kept.
    part, parts
        Do only the ``part``-th of every ``parts`` chunks, counted from 0. :class:`PartDone` is then
        raised where something is asked for that takes chunks of other parts, and at the end.
    telling
        Makes of an amount of work what takes amounts that are done, for work on a part.
    """

    def __init__(
        self,
        inner: Engine[S],
        store: ChunkStore,
        part: int = 0,
        parts: int = 1,
        telling: Callable[[int], Tell] = lambda total: untold,
    ) -> None:
        self._inner, self._store = inner, store
        self._part, self._parts, self._telling = part, parts, telling
        self._asked = 0
        self._begun: dict[int, _Rest[S]] = {}

    def results(self, job: Job[S], tell: Tell) -> Iterator[tuple[int, Arrays]]:
        """See :meth:`Engine.results`; they come in the order of the chunks.

        Raises
        ------
        PartDone
            There are several parts, and chunks are left to others.
        """
        if not job.task.is_kept:
            yield from self._inner.results(job, tell)
            return
        if self._parts > 1 and job.task.is_dealt:
            done, chunks = self._do_part([job])
            if done < chunks:
                raise PartDone(done, chunks)
        self._asked += len(job.chunks)
        rest = self._begun.pop(id(job), None) or self._rest(job)
        for number in set(range(len(job.chunks))) - set(rest.numbers):
            tell(job.task.work(job.chunks[number]))
        fresh, left = self._fresh(rest, tell), set(rest.numbers)
        for number, chunk in enumerate(job.chunks):
            while number in left:
                left.remove(next(fresh))
            made = self._store.get(job.task, number, chunk)
            if made is None:
                # Meanwhile somebody has damaged it, or taken it away.
                ((_, made),) = self._inner.results(Job(job.task, [chunk]), untold)
            yield number, made

    @property
    def width(self) -> int:
        """See :attr:`Engine.width`."""
        return self._inner.width

    def begin(self, jobs: Sequence[Job[S]]) -> None:
        """Do this part of all jobs, where there are several parts.

        Raises
        ------
        PartDone
            There are several parts, and this one is done.
        """
        dealt = [job for job in jobs if job.task.is_dealt and job.task.is_kept]
        if self._parts > 1 and dealt:
            raise PartDone(*self._do_part(dealt))
        for job in jobs:
            if job.task.is_kept:
                self._begun[id(job)] = self._rest(job)
        self._inner.begin([self._part_of(job) for job in jobs])

    def forget(self, jobs: Sequence[Job[S]]) -> None:
        """See :meth:`Engine.forget`."""
        self._inner.forget([self._part_of(job) for job in jobs])
        for job in jobs:
            self._begun.pop(id(job), None)

    def finish(self) -> None:
        """Leave the end to a run of all parts.

        Raises
        ------
        PartDone
            There are several parts.
        """
        if self._parts > 1:
            raise PartDone(self._asked, self._asked)
        self._inner.finish()

    def _do_part(self, jobs: Sequence[Job[S]]) -> tuple[int, int]:
        """Do this part of jobs; return how many of all chunks are done, and of how many."""
        tell = self._telling(sum(map(self._own_work, jobs)))
        missing = 0
        for job in jobs:
            rest = self._rest(job)
            own = _Rest.of(job, [number for number in rest.numbers if self._is_own(number)])
            missing += len(rest.numbers) - sum(1 for _ in self._fresh(own, tell))
        chunks = sum(len(job.chunks) for job in jobs)
        return chunks - missing, chunks

    def _part_of(self, job: Job[S]) -> Job[S]:
        """Return what of a job is left to the inner engine, once it was begun."""
        rest = self._begun.get(id(job))
        return job if rest is None else rest.part

    def _is_own(self, number: int) -> bool:
        return number % self._parts == self._part

    def _own_work(self, job: Job[S]) -> int:
        return sum(
            job.task.work(chunk) for number, chunk in enumerate(job.chunks) if self._is_own(number)
        )

    def _rest(self, job: Job[S]) -> _Rest[S]:
        """Return what of a job is not there yet."""
        return _Rest.of(
            job,
            [
                number
                for number, chunk in enumerate(job.chunks)
                if not self._store.has(job.task, number, chunk)
            ],
        )

    def _fresh(self, rest: _Rest[S], tell: Tell) -> Iterator[int]:
        """Do chunks and keep what comes out; yield their numbers."""
        for place, made in self._inner.results(rest.part, tell):
            number = rest.numbers[place]
            self._store.put(rest.part.task, number, rest.part.chunks[place], made)
            yield number


@dataclass(frozen=True)
class _Rest(Generic[S]):
    """What is left of a job: the numbers of its chunks, and a job of these alone.

    It holds on to the whole job, which it is looked up by.
    """

    whole: Job[S]
    numbers: Sequence[int]
    part: Job[S]

    @classmethod
    def of(cls, job: Job[S], numbers: Sequence[int]) -> _Rest[S]:
        """Return these chunks of a job."""
        chunks = [job.chunks[number] for number in numbers]
        return cls(job, numbers, Job(job.task, chunks, job.upcoming))
