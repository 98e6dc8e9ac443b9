"""Run an iterated attack on many samples, with full batches: finished ones make room for others.

The attack's state has one row, a *lane*, for each sample under way, and stays on the device from
one iteration to the next. Each lane has its own age, so samples need not start together, and what
happens to one does not depend on the others. Memory does not grow with the number of samples.
Each worker has lanes of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cloakify.attacks.jobs import Jobs, share_jobs
from cloakify.graph.attack_steps.steps import AFTER, FOOLED, HOLD, LIVE, NEXT
from cloakify.numeric.arrays import filled
from cloakify.runtime import Session, Workers

Rows = dict[str, NDArray[np.generic]]


class Job(NamedTuple):
    """One run of an attack: on which row of the samples, from which of its starts or targets."""

    row: int
    number: int


@dataclass(frozen=True)
class Iteration:
    """A gradient graph whose run is one iteration of an attack.

    Attributes
    ----------
    sizes
        How many lanes there can be, ascending.
    session
        Opens the graph for one of these sizes.
    x
        Name of the input that ``cloakify_next`` feeds.
    constants
        Inputs that stay as they are.
    workers
        Who runs it.
    patience
        How many lanes may stand finished before their results are fetched, as a fraction.
    """

    sizes: Sequence[int]
    session: Callable[[int], Session]
    x: str
    constants: Mapping[str, NDArray[np.generic]]
    workers: Workers
    patience: float

    def with_constants(self, constants: Mapping[str, NDArray[np.generic]]) -> Iteration:
        """Return the same with further constants."""
        return replace(self, constants={**self.constants, **constants})


class Runner(ABC):
    """What an attack tells :func:`run_lanes`: how jobs start, go on and end.

    Workers call it at the same time, each with jobs of its own; of no row are there two at once.
    """

    evaluations: int
    """How many iterations a job takes unless it ends early."""

    stop_early: bool
    """Whether a job ends at the first iterate that fools the model, and its results are that."""

    onward: int | None = None
    """How many iterations a job goes on from there where it does not end: all if ``None``."""

    @abstractmethod
    def start(self, jobs: Sequence[Job]) -> Rows:
        """Return the first state of jobs: by input name, one row each."""

    def control(self, age: NDArray[np.int64]) -> Rows:
        """Return the inputs that depend on nothing but the lanes' ages."""
        return {}

    @abstractmethod
    def finish(self, jobs: Sequence[Job], fooled: NDArray[np.bool_], rows: Rows) -> list[Job]:
        """Take the results of jobs; return further jobs to be done."""


def run_lanes(iteration: Iteration, runner: Runner, jobs: Sequence[Job]) -> None:
    """Run jobs, and those that follow from them, to their end.

    A job whose iterate fools the model rests there when ``stop_early`` is set; one whose
    iterations are spent rests too. Resting lanes are emptied once enough of them do, or all.
    """

    def work(mine: Jobs[Job]) -> None:
        lanes = _Lanes(iteration, runner)
        while lanes.fill(mine):
            while not lanes.ripe():
                mine.check()
                lanes.advance()
            mine.add(lanes.harvest())

    share_jobs(iteration.workers, jobs, work)


class _Lanes:
    """The lanes of one run. The first ``len(jobs)`` of them are taken."""

    def __init__(self, iteration: Iteration, runner: Runner) -> None:
        self.iteration = iteration
        self.runner = runner
        self.jobs: list[Job] = []
        self.rows: Rows = {}
        self.age = np.zeros(0, np.int64)
        self.fooled = np.zeros(0, np.bool_)
        # Iterations since the first that fooled the model.
        self.since = np.zeros(0, np.int64)
        self.size = 0
        self.values: dict[str, ort.OrtValue] = {}

    def fill(self, waiting: Jobs[Job]) -> bool:
        """Take jobs, choose the smallest batch that holds all, load it; tell if there are any."""
        sizes = self.iteration.sizes
        new = waiting.take(sizes[-1] - len(self.jobs))
        if not new and not self.jobs:
            return False
        size = next(size for size in sizes if size >= len(self.jobs) + len(new))
        if new:
            started = self.runner.start(new)
            self.rows = {
                name: np.concatenate([self.rows[name], rows]) if self.jobs else rows
                for name, rows in started.items()
            }
            self.jobs += new
        taken = len(self.jobs)
        fresh = taken - len(self.age)
        self.age, self.since, self.fooled = (
            np.concatenate([values, np.zeros(fresh, values.dtype)])
            for values in (self.age, self.since, self.fooled)
        )
        self.done = np.zeros(taken, np.bool_)
        if size != self.size:
            self.size = size
            self.session = self.iteration.session(size)
            self.carried = [
                name for name in self.session.outputs if name.endswith(AFTER) and name != NEXT
            ]
            constants = {**self.iteration.constants, HOLD: np.array(self.runner.stop_early)}
            self.fixed = self._put(constants)
        self.values = self._put({name: filled(rows, size) for name, rows in self.rows.items()})
        return True

    def advance(self) -> None:
        """Run one iteration."""
        taken = len(self.jobs)
        live = np.zeros(self.size, np.bool_)
        live[:taken] = ~self.done
        age = np.zeros(self.size, np.int64)
        age[:taken] = self.age
        now = self._put({**self.runner.control(age), LIVE: live})
        feeds = {**self.fixed, **self.values, **now}
        outputs = self.session.run_on_device(feeds, [NEXT, FOOLED, *self.carried])
        self.values[self.iteration.x] = outputs[NEXT]
        for name in self.carried:
            self.values[name.removesuffix(AFTER)] = outputs[name]
        fooled = outputs[FOOLED].numpy()[:taken].astype(np.bool_) & ~self.done
        self.since += self.fooled
        self.fooled |= fooled
        self.age += ~self.done
        self.done |= self.age >= self.runner.evaluations
        if self.runner.stop_early:
            self.done |= fooled
        elif self.runner.onward is not None:
            self.done |= self.fooled & (self.since >= self.runner.onward)

    def ripe(self) -> bool:
        """Tell whether enough lanes stand finished."""
        finished = int(self.done.sum())
        return finished == len(self.jobs) or finished > self.iteration.patience * self.size

    def harvest(self) -> list[Job]:
        """Hand over the finished lanes, close the gaps, and return further jobs."""
        taken = len(self.jobs)
        moving = [self.iteration.x, *(name.removesuffix(AFTER) for name in self.carried)]
        host = self.rows | {name: self.values[name].numpy()[:taken] for name in moving}
        over = np.flatnonzero(self.done)
        further = self.runner.finish(
            [self.jobs[lane] for lane in over],
            self.fooled[over],
            {name: rows[over] for name, rows in host.items()},
        )
        stay = np.flatnonzero(~self.done)
        self.jobs = [self.jobs[lane] for lane in stay]
        self.age, self.since = self.age[stay], self.since[stay]
        self.fooled = self.fooled[stay]
        self.rows = {name: rows[stay] for name, rows in host.items()}
        return further

    def _put(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, ort.OrtValue]:
        """Put arrays on the device, floats in the types that the graph takes."""
        return {
            name: self.session.put(self.session.as_taken(name, array))
            for name, array in arrays.items()
        }
