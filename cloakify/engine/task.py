"""What is done with some samples of an opened subject, wherever that happens."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloakify.data import Batch
from cloakify.numeric.arrays import Indices

# What a task makes of a chunk: arrays by name, so that it can be sent, and kept in a file.
Arrays = Mapping[str, NDArray[Any]]

# Takes an amount of work that was done.
Tell = Callable[[int], None]

Record = TypeVar("Record")


class Subject(Protocol):
    """Opened models and data."""

    def load(self, indices: Indices) -> Batch:
        """Read samples."""

    def digest_at(self, indices: Indices) -> str:
        """Return a name for samples, of all of which some were read before."""

    def digest_read(self, indices: Indices) -> str:
        """Return the same name, reading these samples alone."""

    @property
    def runtime(self) -> tuple[str, str]:
        """What runs the models, and its version."""


S = TypeVar("S", bound=Subject)


class Task(ABC, Generic[S]):
    """Work on samples, a chunk at a time.

    It travels to other processes: its attributes are plain data. What it makes of a chunk depends
    on nothing but the subject, its attributes and the chunk.

    Attributes
    ----------
    is_kept
        Whether a run that goes on is spared it by what an earlier one has made.
    is_dealt
        Whether the parts of one run deal its chunks among themselves; else each needs them all.
    """

    is_kept: ClassVar[bool] = True
    is_dealt: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """What tells it from other tasks of the same run; a part of files' names."""

    @abstractmethod
    def run(self, subject: S, batch: Batch, tell: Tell) -> Arrays:
        """Do it on the samples of a chunk.

        Parameters
        ----------
        tell
            May be told of amounts of work as they are done, :meth:`work` in all; who does not tell
            is taken to have done it all at the end.
        """

    @cached_property
    def digest(self) -> str:
        """A name for all of it: a dataclass by its fields, of arrays all that they hold."""
        whole = hashlib.sha256(type(self).__name__.encode())
        for column in fields(self):  # type: ignore[arg-type]
            value = getattr(self, column.name)
            for each in value if isinstance(value, tuple) else (value,):
                held = each.tobytes() if isinstance(each, np.ndarray) else repr(each).encode()
                whole.update(hashlib.sha256(held).digest())
        return whole.hexdigest()

    def work(self, index: Indices) -> int:
        """Return how much work a chunk is: as a rule, as much as it has samples."""
        return len(index)


@dataclass(frozen=True)
class Job(Generic[S]):
    """A task, and the chunks that it is to be done on.

    Where a chunk begins and ends is part of the plan, as is the order of what comes out: both may
    decide the last bits of a sum, and neither may depend on who does the work.

    Attributes
    ----------
    upcoming
        Samples that whoever does the last chunk is likely to be asked for next, by another job:
        they are read meanwhile.
    """

    task: Task[S]
    chunks: Sequence[Indices]
    upcoming: Indices | None = None

    def following(self, number: int, count: int = 1) -> list[Indices]:
        """Return the chunks after one, at most so many, that are likely to come next."""
        chunks = list(self.chunks[number + 1 : number + 1 + count])
        if self.upcoming is not None:
            chunks.append(self.upcoming)
        return chunks[:count]

    @property
    def work(self) -> int:
        """All of it."""
        return sum(map(self.task.work, self.chunks))


def untold(amount: int) -> None:
    """Tell nobody."""


def work_of(jobs: Iterable[Job[S]]) -> int:
    """Return the work of all jobs together."""
    return sum(job.work for job in jobs)


def to_arrays(records: Sequence[Any]) -> Arrays:
    """Return the fields of dataclasses of arrays under names such as ``0.clean``."""
    return {
        f"{number}.{column.name}": np.asarray(getattr(record, column.name))
        for number, record in enumerate(records)
        for column in fields(record)
    }


def to_records(kind: type[Record], arrays: Arrays) -> list[Record]:
    """Return the dataclasses that :func:`to_arrays` was given."""
    rows: dict[int, dict[str, NDArray[np.generic]]] = {}
    for name, array in arrays.items():
        number, _, column = name.partition(".")
        rows.setdefault(int(number), {})[column] = array
    return [kind(**rows[number]) for number in sorted(rows)]


def join(records: Sequence[Record]) -> Record:
    """Return one dataclass of arrays with the samples of several, in order.

    Parameters
    ----------
    records
        At least one; in every array the samples are the first axis.
    """
    kind: Any = type(records[0])
    return kind(  # type: ignore[no-any-return]
        *(
            np.concatenate([getattr(record, column.name) for record in records])
            for column in fields(kind)
        )
    )
