"""What runs in a worker of a Ray cluster: a subject of its own, and tasks on chunks of it."""

from __future__ import annotations

import platform
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cloakify.engine.local import run_chunk
from cloakify.engine.reading import Reader
from cloakify.engine.task import Arrays, S, Subject, Task
from cloakify.errors import CloakifyError, DataError, OutOfMemoryError
from cloakify.numeric.arrays import Indices
from cloakify.onnxfile.sidecars import sha256_of
from cloakify.temporary import own_folder

# Tasks that a worker keeps, each with what it needs: an edited model, as a rule.
KEPT = 4

Made = TypeVar("Made", bound=Subject, covariant=True)


class Recipe(Protocol[Made]):
    """How to open a subject elsewhere; plain data."""

    @property
    def files(self) -> Sequence[Path]:
        """Files that may be sent along."""

    def open(self, places: Mapping[Path, Path], threads: int) -> Made:
        """Open it, with files in other places and on so many cores."""


@dataclass(frozen=True)
class Sent:
    """A file that was sent: its digest, and a reference to its bytes in a list of its own.

    A reference that stands alone would be followed, and the bytes be fetched, whether or not the
    file lies on the node anyway.
    """

    sha256: str
    content: list[Any]


@dataclass(frozen=True)
class WorkerKind:
    """What a worker is.

    Attributes
    ----------
    provider, onnxruntime
        What runs the model, and which version.
    cpu
        Architecture, and what its vectors are.
    cores
        How many it uses.
    """

    provider: str
    onnxruntime: str
    cpu: str
    cores: int


class Worker(Generic[S]):
    """Opens a subject once, and does tasks on chunks of it."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, Task[S]] = OrderedDict()
        self._told = 0

    def open(
        self, recipe: Recipe[S], sent: Mapping[Path, Sent], threads: int
    ) -> WorkerKind | CloakifyError:
        """Open the subject; return what this worker is, or why it can't."""
        try:
            places = {path: place for path, each in sent.items() if (place := _found(path, each))}
            self._subject = recipe.open(places, threads)
            self._reader = Reader(self._subject.load)
            provider, version = self._subject.runtime
        except CloakifyError as error:
            return error
        return WorkerKind(provider, version, cpu_kind(), threads)

    def run(
        self,
        name: str,
        task: Task[S] | list[Any],
        chunk: Indices,
        digest: str,
        following: Sequence[Indices],
    ) -> tuple[Arrays, float] | CloakifyError:
        """Do a task on a chunk; return what it makes, and its seconds, or why it can't be done.

        Parameters
        ----------
        name
            Another one for each task of a run.
        task
            It, or a reference to it, alone in a list.
        digest
            Of the samples, where the run was started.
        following
            The chunk that is likely to come next, if any is; it is read meanwhile.
        """
        begun, self._told = time.perf_counter(), 0
        try:
            batch = self._reader.read(chunk, following)
            if self._subject.digest_read(chunk) != digest:
                raise DataError(
                    f"{platform.node()} holds other samples than where the run was started"
                )
            made = run_chunk(self._task(name, task), self._subject, batch, self._tell)
        except OutOfMemoryError:
            # Another worker may have more.
            raise
        except CloakifyError as error:
            return error
        return made, time.perf_counter() - begun

    def told(self) -> int:
        """Return how much of the work on the chunk at hand is done; asked meanwhile."""
        return self._told

    def _tell(self, amount: int) -> None:
        self._told += amount

    def _task(self, name: str, task: Task[S] | list[Any]) -> Task[S]:
        import ray

        if isinstance(task, Task):
            return task
        if name not in self._tasks:
            self._tasks[name] = ray.get(task[0])
            while len(self._tasks) > KEPT:
                self._tasks.popitem(last=False)
        return self._tasks[name]


def cpu_kind() -> str:
    """Return the CPU's architecture, and the widest of its vectors that Linux tells of."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    known = ("amx_int8", "avx512f", "avx2", "avx", "sve", "asimd")
    widest = next((flag for flag in known if flag in flags), "")
    return f"{platform.machine()} {widest}".strip()


def _found(path: Path, sent: Sent) -> Path | None:
    """Return where a file that was sent lies, unless it lies in its own place anyway."""
    import ray

    if path.is_file() and sha256_of(path).hex() == sent.sha256:
        return None
    place = own_folder() / path.name
    place.write_bytes(ray.get(sent.content[0]))
    return place
