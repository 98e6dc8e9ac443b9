"""Which of several masks leaves an attacker least, without attacking all of them on all samples.

The masks differ behind the features alone. So a sample that was crafted against one of them is
tried on all by running the head on its features, and a mask is known to leave at most so many
samples standing as withstand everything tried so far. An attack on a mask goes on from where the
last one on the same sample ended, the first of them from where an attack on the source did: a few
steps then find what many from a random point do. The mask with the highest such bound is
attacked next, on the next part of the samples, until the one with the highest bound was itself
attacked on all of them (best-first search; Hart, Nilsson & Raphael, 1968, with a bound in place of
an estimate). It is then the most robust one under all that was tried: what was never attacked on
all samples was behind before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cloakify.attacks import Attack
from cloakify.engine.engine import Engine
from cloakify.engine.task import Job, untold
from cloakify.experiment.experiment import Progress
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.hardening.race_tasks import Attacking, Moves, Opening, Trying
from cloakify.masking.mask_choice import MaskChoice
from cloakify.numeric.arrays import Array, Flags, Indices, in_chunks

# Into how many parts the samples are dealt at most: a mask that is far behind is seen in the first.
PARTS = 8

# Bytes of crafted samples up to which they are kept; where they take more, attacks start anew.
KEPT = 1 << 28


@dataclass(eq=False)
class Contender:
    """A mask in the race.

    Attributes
    ----------
    choice
        The mask.
    number
        Which one it is of all that have entered.
    standing
        bool [n]: which of the samples withstand everything that was tried.
    tried
        With how many of the attacks each part of the samples was attacked on this very mask.
    """

    choice: MaskChoice
    number: int
    standing: Flags
    tried: list[int] = field(default_factory=list)

    @property
    def bound(self) -> int:
        """How many samples it can leave standing at most."""
        return int(self.standing.sum())


@dataclass(frozen=True, eq=False)
class _Turn:
    """An attack on a mask that is due, or may soon be: its jobs, and the rows of each."""

    jobs: list[Job[Subject]]
    rows: list[Indices]


class MaskRace:
    """Compares masks on the same samples; what won stays in the race.

    Parameters
    ----------
    subject
        The classifier and its data.
    engine
        Who does the work.
    samples
        int64 [n]: the samples to compare on.
    opening
        An attack on the source, which does not stop where it has fooled it.
    attacks
        On masks, in turn, each on what those before it leave; they stop where they have fooled the
        model.
    """

    def __init__(
        self,
        subject: Subject,
        engine: Engine[Subject],
        samples: Indices,
        opening: Attack,
        attacks: Sequence[Attack],
    ) -> None:
        self._engine, self._samples = engine, samples
        self._opening, self._attacks = opening, tuple(attacks)
        target, shape = subject.targets[SOURCE], subject.first.dataset.sample_shape
        size = max(target.batch_size, -(-len(samples) // PARTS))
        # Rows of the samples: each part in chunks that are attacked together.
        self._parts = [
            in_chunks(part, target.span) for part in in_chunks(np.arange(len(samples)), size)
        ]
        # How often anything was tried on each part.
        self._ages = [0] * len(self._parts)
        self._leader: Contender | None = None
        self._entered = 0
        self._ahead: dict[tuple[int, int], _Turn] = {}
        # How far each sample was moved last, where that does not take too much.
        shape = (len(samples), *shape)
        room = 2 * np.prod(shape) <= KEPT
        self._moved: Moves | None = np.zeros(shape, np.float16) if room else None

    def run(self, choices: Sequence[MaskChoice], stage: str, progress: Progress) -> MaskChoice:
        """Let masks race against each other and the winner so far; return the winner.

        Of equally robust ones an earlier winner stays, else the first counts.
        """
        total = len(self._attacks) * len(self._parts) * len(choices)
        progress(stage, 0, total)
        if self._leader is None:
            self._open()
        contenders = [] if self._leader is None else [self._leader]
        contenders += self._enter(choices)
        for done in range(1, total + 1):
            leader = max(contenders, key=lambda contender: contender.bound)
            due = self._due(leader)
            if not due:
                break
            self._look_ahead(leader, due, contenders)
            self._attack(leader, due[0], contenders)
            progress(stage, done, total)
        self._leader = max(contenders, key=lambda contender: contender.bound)
        self._forget(list(self._ahead))
        progress(stage, total, total)
        return self._leader.choice

    def _open(self) -> None:
        """Attack the source."""
        if self._moved is None:
            return
        chunks = list(self._chunks())
        job = Job(Opening("opening", self._opening), [self._samples[rows] for rows in chunks])
        for rows, made in zip(chunks, self._engine.map(job, untold), strict=True):
            self._moved[rows] = made["moved"]

    def _enter(self, choices: Sequence[MaskChoice]) -> list[Contender]:
        """Return masks at the start: what they classify rightly, clean and as crafted, stands."""
        contenders = [
            Contender(
                choice,
                self._entered + place,
                np.empty(len(self._samples), np.bool_),
                [0] * len(self._parts),
            )
            for place, choice in enumerate(choices)
        ]
        jobs, chunks = [], list(self._chunks())
        for place, rows in enumerate(chunks):
            name = f"entering-{self._entered}-{place}"
            task = Trying(name, _masks_of(contenders), self._moves_of(rows))
            jobs.append(Job(task, [self._samples[rows]]))
        self._entered += len(choices)
        self._engine.begin(jobs)
        for rows, job in zip(chunks, jobs, strict=True):
            (made,) = self._engine.map(job, untold)
            for contender, stands in zip(contenders, made["clean"] & made["crafted"], strict=True):
                contender.standing[rows] = stands
        return contenders

    def _due(self, contender: Contender) -> list[int]:
        """Return the parts that a mask was not attacked on with everything, the next one first."""
        parts = [p for p, tried in enumerate(contender.tried) if tried < len(self._attacks)]
        return sorted(parts, key=contender.tried.__getitem__)

    def _look_ahead(
        self, leader: Contender, due: Sequence[int], contenders: Sequence[Contender]
    ) -> None:
        """Have the leader's next attack made, and further ones where others would be idle.

        These come to nothing where something else was tried on the same samples before their turn.
        """
        new: list[Job[Subject]] = []
        ahead = 0
        for part in due:
            key = leader.number, part
            if key not in self._ahead:
                self._ahead[key] = self._turn(leader, part, contenders)
                new += self._ahead[key].jobs
            ahead += len(self._ahead[key].jobs)
            if ahead >= self._engine.width:
                break
        self._engine.begin(new)

    def _turn(self, leader: Contender, part: int, contenders: Sequence[Contender]) -> _Turn:
        """Return an attack of one mask on what stands of a part, as things are now."""
        number, age = leader.tried[part], self._ages[part]
        jobs, rows = [], []
        for place, every in enumerate(self._parts[part]):
            left = every[leader.standing[every]]
            if len(left):
                task = Attacking(
                    f"{leader.number}-{number}-{part}-{age}-{place}",
                    self._attacks[number],
                    leader.choice.mask,
                    _masks_of(contenders),
                    self._moves_of(left),
                )
                jobs.append(Job(task, [self._samples[left]]))
                rows.append(left)
        return _Turn(jobs, rows)

    def _attack(self, leader: Contender, part: int, contenders: Sequence[Contender]) -> None:
        """Attack one mask on a part of the samples, and try what that makes on every mask."""
        turn = self._ahead.pop((leader.number, part))
        leader.tried[part] += 1
        self._ages[part] += 1
        for rows, job in zip(turn.rows, turn.jobs, strict=True):
            (made,) = self._engine.map(job, untold)
            if self._moved is not None:
                self._moved[rows] = made["moved"]
            for contender, right in zip(contenders, made["right"], strict=True):
                contender.standing[rows] &= right
        self._forget([key for key in self._ahead if key[1] == part])

    def _forget(self, keys: Sequence[tuple[int, int]]) -> None:
        """Give up attacks that are out of date."""
        self._engine.forget([job for key in keys for job in self._ahead.pop(key).jobs])

    def _chunks(self) -> Iterator[Indices]:
        return (rows for part in self._parts for rows in part)

    def _moves_of(self, rows: Indices) -> Moves | None:
        return None if self._moved is None else self._moved[rows]


def _masks_of(contenders: Sequence[Contender]) -> tuple[Array, ...]:
    return tuple(contender.choice.mask for contender in contenders)
