"""Workers of a Ray cluster do the work; what one of them fails at, another one does again.

Ray keeps the workers, sends what they need once a node, and tells of those that die. Which chunk is
done next is decided here, so that nothing is counted twice and what comes out is in order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from cloakify.engine.engine import Engine
from cloakify.engine.ray_cluster import RayCluster
from cloakify.engine.ray_worker import Recipe, Sent, Worker, WorkerKind
from cloakify.engine.task import Arrays, Job, S, Task, Tell
from cloakify.errors import CloakifyError, DeviceError
from cloakify.onnxfile.sidecars import sha256_of

# How often a chunk is done again, and how many workers in a row may fail to start.
RETRIES = 3

# How many chunks for each worker may be ahead of the first that is not done: what is done early
# waits in the driver's memory.
AHEAD = 4

# Seconds between two looks at whether the cluster has grown.
LOOK = 2.0

# Files up to this size are sent to nodes of other machines, through Ray's object store.
LARGEST = 1 << 30


@dataclass(eq=False)
class _Piece(Generic[S]):
    """A chunk of a job, and what has become of it so far."""

    job: Job[S]
    number: int
    causes: list[str] = field(default_factory=list)
    shunned: set[int] = field(default_factory=set)


@dataclass(eq=False)
class _Running(Generic[S]):
    """A job under way: which chunks are out or done early; no more of it than workers hold.

    Attributes
    ----------
    name
        Another one for each job of a run.
    task
        The task, or a reference to it, alone in a list.
    due
        The first chunk that nobody was given yet.
    out
        Those before it that were not handed on to whoever asked for the job.
    made
        What was made of some of these.
    """

    job: Job[S]
    name: str
    task: Task[S] | list[Any]
    due: int = 0
    out: set[int] = field(default_factory=set)
    made: dict[int, Arrays] = field(default_factory=dict)

    def take(self, reach: int) -> _Piece[S] | None:
        """Take the next chunk, unless it is so far ahead of the first that was not handed on."""
        number = self.due
        if number == len(self.job.chunks) or number > min(self.out, default=number) + reach:
            return None
        self.due += 1
        self.out.add(number)
        return _Piece(self.job, number)


@dataclass(eq=False)
class _Hand(Generic[S]):
    """A worker: what it does at present, and what it will do next unless another one is idle."""

    actor: Any
    number: int
    reference: Any
    is_open: bool = False
    answer: tuple[_Piece[S], Any] | None = None
    piece: _Piece[S] | None = None
    reserved: _Piece[S] | None = None


class RayEngine(Engine[S]):
    """Does tasks in the workers of a cluster.

    Parameters
    ----------
    cluster
        Where.
    subject
        What they are done on; here only its samples are named.
    recipe
        How a worker opens it.

    Attributes
    ----------
    kinds
        What each worker was that has taken part.
    seconds
        That all of them have worked together.
    again
        How many chunks had to be done again.
    """

    def __init__(self, cluster: RayCluster, subject: S, recipe: Recipe[S]) -> None:
        self._cluster, self._subject, self._ray = cluster, subject, cluster.ray
        self._recipe = self._ray.put(recipe)
        self._sent = self._send(recipe) if cluster.is_remote else {}
        self._share = cluster.share()
        self._hands: list[_Hand[S]] = []
        self._again: deque[_Piece[S]] = deque()
        # By the job's identity, which holds as long as it is kept here; in the order they came in.
        self._running: dict[int, _Running[S]] = {}
        self._entered = 0
        self._born, self._stillborn, self._looked = 0, 0, time.monotonic()
        self._asked = time.monotonic()
        self.kinds: list[WorkerKind] = []
        self.seconds, self.again = 0.0, 0
        for _ in range(self._share.workers):
            self._hire()

    @property
    def width(self) -> int:
        """As many as there are workers."""
        return max(1, len(self._hands))

    def begin(self, jobs: Sequence[Job[S]]) -> None:
        """Put jobs into the queue: workers go on with the next one before this one is through."""
        for job in jobs:
            self._enter(job)
        self._assign()

    def forget(self, jobs: Sequence[Job[S]]) -> None:
        """Take jobs out of the queue; what a worker is at comes to its end, for nothing."""
        for job in jobs:
            self._running.pop(id(job), None)
            self._again = deque(piece for piece in self._again if piece.job is not job)
            for hand in self._hands:
                if hand.reserved is not None and hand.reserved.job is job:
                    hand.reserved = None

    def results(self, job: Job[S], tell: Tell) -> Iterator[tuple[int, Arrays]]:
        """See :meth:`Engine.results`."""
        running, told = self._enter(job), dict[int, int]()

        def tell_of(number: int, amount: int) -> None:
            # A chunk that is begun again tells of its work again.
            tell(max(0, amount - told.get(number, 0)))
            told[number] = max(told.get(number, 0), amount)

        try:
            for _ in job.chunks:
                while not running.made:
                    self._assign()
                    self._wait()
                    for piece, amount in self._underway(job):
                        tell_of(piece.number, amount)
                number = min(running.made)
                made = running.made.pop(number)
                running.out.discard(number)
                tell_of(number, job.task.work(job.chunks[number]))
                told.pop(number)
                # Before whoever asked does something with it.
                self._assign()
                yield number, made
        finally:
            self.forget([job])

    def close(self) -> None:
        """Let the workers go."""
        for hand in self._hands:
            self._ray.kill(hand.actor)
        self._hands.clear()

    def _enter(self, job: Job[S]) -> _Running[S]:
        if id(job) not in self._running:
            name = f"{job.task.name}-{self._entered}"
            self._entered += 1
            # What is sent once needs no place to be sent from.
            task = job.task if len(job.chunks) == 1 else [self._ray.put(job.task)]
            self._running[id(job)] = _Running(job, name, task)
        return self._running[id(job)]

    def _send(self, recipe: Recipe[S]) -> dict[Path, Sent]:
        """Put small files where all nodes find them."""
        return {
            path: Sent(sha256_of(path).hex(), [self._ray.put(path.read_bytes())])
            for path in recipe.files
            if path.stat().st_size <= LARGEST
        }

    def _hire(self) -> None:
        """Start a worker."""
        share = self._share
        made = self._ray.remote(Worker).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_restarts=0,
            # One does the work, the other tells how far it is.
            max_concurrency=2,
            scheduling_strategy="SPREAD",
        )
        actor = made.remote()
        opened = actor.open.remote(self._recipe, self._sent, share.cpus)
        self._hands.append(_Hand(actor, self._born, opened))
        self._born += 1

    def _assign(self) -> None:
        """Give every idle worker a chunk, and tell it which one it is likely to get next."""
        for hand in self._hands:
            if hand.is_open and hand.piece is None:
                piece, hand.reserved = hand.reserved, None
                piece = piece or self._next(hand) or self._taken_over(hand)
                if piece is not None:
                    self._start(hand, piece)

    def _start(self, hand: _Hand[S], piece: _Piece[S]) -> None:
        hand.piece, hand.reserved = piece, self._next(hand)
        chunk = piece.job.chunks[piece.number]
        coming = piece.job.following(len(piece.job.chunks) - 1)
        if hand.reserved is not None:
            coming = [hand.reserved.job.chunks[hand.reserved.number]]
        running, digest = self._running[id(piece.job)], self._subject.digest_at(chunk)
        hand.reference = hand.actor.run.remote(running.name, running.task, chunk, digest, coming)

    def _next(self, hand: _Hand[S]) -> _Piece[S] | None:
        """Take the first chunk of the queue that may be done now, and by this worker."""
        for piece in self._again:
            if self._may(hand, piece):
                self._again.remove(piece)
                return piece
        reach = AHEAD * len(self._hands)
        return next(filter(None, (each.take(reach) for each in self._running.values())), None)

    def _taken_over(self, hand: _Hand[S]) -> _Piece[S] | None:
        """Take what a busy worker would do next."""
        for other in self._hands:
            if other.reserved is not None and self._may(hand, other.reserved):
                piece, other.reserved = other.reserved, None
                return piece
        return None

    def _may(self, hand: _Hand[S], piece: _Piece[S]) -> bool:
        """Tell whether a worker has not failed at a chunk yet, or nobody else is left to try it."""
        others = {other.number for other in self._hands if other is not hand}
        return hand.number not in piece.shunned or others <= piece.shunned

    def _wait(self) -> None:
        """Wait until something happens in the cluster, and see to it."""
        busy = {hand.reference: hand for hand in self._hands if hand.reference is not None}
        ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=LOOK)
        for reference in ready:
            hand = busy[reference]
            hand.reference = None
            if hand.is_open:
                self._finished(hand, reference)
            else:
                self._opened(hand, reference)
        if self._cluster.options.workers is None and time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            for _ in range(self._cluster.share().workers - len(self._hands)):
                self._hire()

    def _underway(self, job: Job[S]) -> Iterator[tuple[_Piece[S], int]]:
        """Yield the chunks of a job that workers are at, with the amounts of work that are done.

        They are asked now and then; those that have answered by then count.
        """
        if time.monotonic() - self._asked > LOOK:
            self._asked = time.monotonic()
            for hand in self._hands:
                if hand.is_open and hand.piece is not None and hand.answer is None:
                    hand.answer = hand.piece, hand.actor.told.remote()
        asked = [hand for hand in self._hands if hand.answer is not None]
        for hand in asked:
            assert hand.answer is not None
            piece, reference = hand.answer
            if not self._ray.wait([reference], timeout=0)[0]:
                continue
            hand.answer = None
            if piece is hand.piece and piece.job is job:
                try:
                    yield piece, self._ray.get(reference)
                except self._ray.exceptions.RayError:
                    # Who died is found out from the work itself.
                    continue

    def _opened(self, hand: _Hand[S], reference: Any) -> None:
        try:
            kind = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._stillborn += 1
            if self._stillborn > RETRIES:
                raise DeviceError(
                    f"workers of the Ray cluster die as they start: {_line(error)}"
                ) from error
            self._replace(hand)
            return
        if isinstance(kind, CloakifyError):
            raise kind
        self._stillborn, hand.is_open = 0, True
        self.kinds.append(kind)

    def _finished(self, hand: _Hand[S], reference: Any) -> None:
        piece, hand.piece = hand.piece, None
        assert piece is not None
        try:
            made = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            self._failed(hand, piece, error.cause)
            return
        except self._ray.exceptions.RayError as error:
            self._failed(hand, piece, error)
            self._replace(hand)
            return
        if isinstance(made, CloakifyError):
            raise made
        arrays, seconds = made
        self.seconds += seconds
        if id(piece.job) in self._running:
            self._running[id(piece.job)].made[piece.number] = arrays

    def _failed(self, hand: _Hand[S], piece: _Piece[S], error: BaseException) -> None:
        if id(piece.job) not in self._running:
            return
        piece.causes.append(_line(error))
        piece.shunned.add(hand.number)
        if len(piece.causes) > RETRIES:
            raise DeviceError(
                f"chunk {piece.number + 1} of {len(piece.job.chunks)} ({piece.job.task.name}) "
                f"failed {len(piece.causes)} times, at last: {piece.causes[-1]}"
            ) from error
        self.again += 1
        self._again.appendleft(piece)

    def _replace(self, hand: _Hand[S]) -> None:
        """Start a worker in a dead one's place."""
        self._hands.remove(hand)
        if hand.reserved is not None:
            self._again.appendleft(hand.reserved)
        self._ray.kill(hand.actor)
        self._hire()


def _line(error: BaseException) -> str:
    """Return an error as one line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
