"""Near copies among samples that are read where the work is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.evaluation.near_copies import BATCH, meet, sketch
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Array, Flags, Indices, in_chunks


@dataclass(frozen=True)
class Sketching(Task[Subject]):
    """Makes ``sketch`` of samples; see :func:`~cloakify.evaluation.near_copies.sketch`."""

    place: str
    is_dealt = False

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"sketching-{self.place}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        return {"sketch": sketch(batch.x, subject.first.threat)}


@dataclass(frozen=True)
class Meeting(Task[Subject]):
    """Tells of pairs, the first of each before all second ones, whether they ``meet``, bool [n]."""

    name = "meeting"
    is_dealt = False

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        first, second = np.split(batch.x, 2)
        return {"meet": meet(first, second, subject.first.threat)}


class EngineLooks:
    """Has an engine look at samples; see :class:`~cloakify.evaluation.near_copies.Looks`."""

    def __init__(self, subject: Subject, engine: Engine[Subject]) -> None:
        self._subject, self._engine = subject, engine
        self._asked = 0

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of a sample."""
        return self._subject.first.dataset.sample_shape

    def sketches(self, samples: Indices) -> Iterator[tuple[Indices, Array]]:
        """Yield samples in order with their sketches."""
        job = Job(Sketching(str(self._asked)), in_chunks(samples, BATCH))
        self._asked += 1
        for index, made in zip(job.chunks, self._engine.map(job, untold), strict=True):
            yield index, made["sketch"]

    def meetings(self, first: Indices, second: Indices) -> Flags:
        """Tell which pairs meet."""
        pairs = zip(in_chunks(first, BATCH), in_chunks(second, BATCH), strict=True)
        job = Job(Meeting(), [np.concatenate(pair) for pair in pairs])
        met: Flags = np.concatenate([made["meet"] for made in self._engine.map(job, untold)])
        return met
