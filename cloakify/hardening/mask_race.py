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
from numpy.typing import NDArray

from cloakify.attacks import Attack
from cloakify.data import Batch
from cloakify.experiment.experiment import Progress
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.masking.mask_choice import MaskChoice
from cloakify.masking.masked_head import MaskedHead
from cloakify.numeric.arrays import Array, Flags, Indices, Labels, floats, in_chunks
from cloakify.numeric.judging import is_right

# Into how many parts the samples are dealt at most: a mask that is far behind is seen in the first.
PARTS = 8

# Steps that drive samples past the source's border.
ONWARD = 3

# Bytes of crafted samples up to which they are kept; where they take more, attacks start anew.
KEPT = 1 << 28


@dataclass
class Contender:
    """A mask in the race.

    Attributes
    ----------
    choice
        The mask.
    standing
        bool [n]: which of the samples withstand everything that was tried.
    tried
        With how many of the attacks each part of the samples was attacked on this very mask.
    """

    choice: MaskChoice
    standing: Flags
    tried: list[int] = field(default_factory=list)

    @property
    def bound(self) -> int:
        """How many samples it can leave standing at most."""
        return int(self.standing.sum())


class MaskRace:
    """Compares masks on the same samples; what won stays in the race.

    Parameters
    ----------
    subject
        The classifier and its data.
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
        samples: Indices,
        opening: Attack,
        attacks: Sequence[Attack],
    ) -> None:
        self._experiment = experiment = subject.first
        self._opening = opening
        self._attacks = tuple(attacks)
        self._target, self._masks = subject.targets[SOURCE], subject.masks
        size = max(self._target.batch_size, -(-len(samples) // PARTS))
        self._parts = in_chunks(samples, size)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        classifier, device = experiment.classifier, experiment.device
        self._head = MaskedHead.of(
            experiment.attacked(), classifier.head, classifier.scores.logits, device.host
        )
        self._leader: Contender | None = None
        self._crafted = self._kept(len(samples))

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
            part = min(range(len(self._parts)), key=leader.tried.__getitem__)
            if leader.tried[part] == len(self._attacks):
                break
            self._attack(leader, part, contenders)
            progress(stage, done, total)
        self._leader = max(contenders, key=lambda contender: contender.bound)
        progress(stage, total, total)
        return self._leader.choice

    def _enter(self, choices: Sequence[MaskChoice]) -> list[Contender]:
        """Return masks at the start: what they classify rightly, clean and as crafted, stands."""
        contenders = [
            Contender(choice, np.empty(self._starts[-1], np.bool_), [0] * len(self._parts))
            for choice in choices
        ]
        for part in range(len(self._parts)):
            for rows, batch in self._batches(part):
                x = floats(batch.x)
                clean = self._verdicts(x, batch.y, contenders)
                crafted = self._verdicts(self._last(rows, x), batch.y, contenders)
                for contender, right, still in zip(contenders, clean, crafted, strict=True):
                    contender.standing[rows] = right & still
        return contenders

    def _open(self) -> None:
        """Attack the source."""
        if self._crafted is None:
            return
        for part in range(len(self._parts)):
            for rows, batch in self._batches(part):
                x = floats(batch.x)
                attacked, _ = self._opening.explore(
                    self._target, x, batch.y, batch.index, self._experiment.threat, ONWARD
                )
                self._keep(rows, x, attacked)

    def _kept(self, count: int) -> NDArray[np.float16] | None:
        """Return room for how far each sample was moved last, where that does not take too much."""
        shape = (count, *self._experiment.dataset.sample_shape)
        return None if 2 * np.prod(shape) > KEPT else np.zeros(shape, np.float16)

    def _keep(self, rows: Indices, x: Array, attacked: Array) -> None:
        if self._crafted is not None:
            self._crafted[rows] = attacked - x

    def _last(self, rows: Indices, x: Array) -> Array:
        """Return where samples were moved last."""
        if self._crafted is None:
            return x
        return self._experiment.threat.project(floats(x + self._crafted[rows]), x)

    def _attack(self, leader: Contender, part: int, contenders: Sequence[Contender]) -> None:
        """Attack one mask on a part of the samples, and try what that makes on every mask."""
        attack = self._attacks[leader.tried[part]]
        leader.tried[part] += 1
        target = self._masks.target(leader.choice.mask)
        for every, batch in self._batches(part):
            left = leader.standing[every]
            rows = every[left]
            if len(rows):
                x, y, index = floats(batch.x[left]), batch.y[left], batch.index[left]
                threat = self._experiment.threat
                if self._crafted is None:
                    attacked = attack.run(target, x, y, index, threat)
                else:
                    begin = self._last(rows, x)
                    attacked = attack.resume(target, x, y, index, threat, begin)
                self._keep(rows, x, attacked)
                verdicts = self._verdicts(attacked, y, contenders)
                for contender, right in zip(contenders, verdicts, strict=True):
                    contender.standing[rows] &= right

    def _batches(self, part: int) -> Iterator[tuple[Indices, Batch]]:
        """Yield the samples of a part, and where they are among all that are compared."""
        start = int(self._starts[part])
        for batch in self._experiment.dataset.batches(self._parts[part], self._target.span):
            yield start + np.arange(len(batch.y)), batch
            start += len(batch.y)

    def _verdicts(self, x: Array, y: Labels, contenders: Sequence[Contender]) -> Iterator[Flags]:
        """Yield which samples each mask leaves the model right on."""
        if self._head is None:
            for contender in contenders:
                yield self._masks.target(contender.choice.mask).correct(x, y)
            return
        features, _ = self._target.features_and_logits(x)
        for contender in contenders:
            logits = self._head.logits(features, contender.choice.mask)
            yield is_right(logits, y)
