"""A subject of numbers, so small that what tasks make of it can be reckoned by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.data import Batch
from cloakify.engine.task import Arrays, Job, Task, Tell
from cloakify.numeric.arrays import Indices, in_chunks


@dataclass
class Numbers:
    """Samples of one number each: three times their index, plus a shift."""

    shift: float = 0.0

    def load(self, indices: Indices) -> Batch:
        x = (3.0 * indices + self.shift).astype(np.float32)
        return Batch(x, np.zeros(len(indices), np.int64), indices)

    def digest_at(self, indices: Indices) -> str:
        return repr(self.load(indices).x.tolist())

    def digest_read(self, indices: Indices) -> str:
        return self.digest_at(indices)

    @property
    def runtime(self) -> tuple[str, str]:
        return "none", "0"


@dataclass(frozen=True)
class Squares(Task[Numbers]):
    """Squares and adds; tells of what it does in two steps, of the last sample too often."""

    plus: float = 0.0
    name = "squares"

    def run(self, subject: Numbers, batch: Batch, tell: Tell) -> Arrays:
        tell(1)
        tell(2 * len(batch.index))
        return {"squares": batch.x**2 + self.plus, "sum": np.array(batch.x.sum(dtype=np.float64))}


def squares(count: int, size: int, plus: float = 0.0) -> Job[Numbers]:
    """Return the job of squaring the first so many numbers."""
    return Job(Squares(plus), in_chunks(np.arange(count), size))


def expected(count: int, plus: float = 0.0, shift: float = 0.0) -> np.ndarray:
    """What comes out of it."""
    return ((3 * np.arange(count) + shift) ** 2 + plus).astype(np.float32)
