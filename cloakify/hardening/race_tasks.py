"""What a race between masks has done with samples: to attack some, and to try them on all masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import Attack
from cloakify.data import Batch
from cloakify.engine.task import Arrays, Task, Tell
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.masking.masked_head import MaskedHead
from cloakify.numeric.arrays import Array, Flags, Labels, floats
from cloakify.numeric.judging import is_right

# How far samples were moved.
Moves = NDArray[np.float16]

# Steps that drive samples past the source's border.
ONWARD = 3


@dataclass(frozen=True, eq=False)
class _Racing(Task[Subject]):
    """A part of a race, whose turns hang on each other: all parts of a run need all of it.

    Attributes
    ----------
    place
        What tells it from others of the race.
    """

    place: str
    is_dealt = False

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"race-{self.place}"


@dataclass(frozen=True, eq=False)
class Opening(_Racing):
    """Attacks the source, a little past its border; tells how far samples were ``moved``."""

    attack: Attack

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        x, threat = floats(batch.x), subject.first.threat
        target = subject.targets[SOURCE]
        attacked, _ = self.attack.explore(target, x, batch.y, batch.index, threat, ONWARD)
        return {"moved": _moves(attacked, x)}


@dataclass(frozen=True, eq=False)
class Trying(_Racing):
    """Tries samples on k masks; tells which are right ``clean`` and ``crafted``, bool [k, n].

    Attributes
    ----------
    masks
        Each [D].
    moved
        How far each sample was moved last; ``None`` where that is not known, nor is it crafted.
    """

    masks: tuple[Array, ...]
    moved: Moves | None

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        x = floats(batch.x)
        clean = _verdicts(subject, x, batch.y, self.masks)
        if self.moved is None:
            return {"clean": clean, "crafted": clean}
        crafted = _begin(subject.first, x, self.moved)
        return {"clean": clean, "crafted": _verdicts(subject, crafted, batch.y, self.masks)}


@dataclass(frozen=True, eq=False)
class Attacking(_Racing):
    """Attacks a mask, and tries what that makes on k masks: ``right``, bool [k, n], and ``moved``.

    Attributes
    ----------
    attack, mask
        It goes on from where samples were moved last, if that is known.
    masks, moved
        As of :class:`Trying`.
    """

    attack: Attack
    mask: Array
    masks: tuple[Array, ...]
    moved: Moves | None

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        x, y, index, threat = floats(batch.x), batch.y, batch.index, subject.first.threat
        target = subject.masks.target(self.mask)
        if self.moved is None:
            attacked = self.attack.run(target, x, y, index, threat)
        else:
            begin = _begin(subject.first, x, self.moved)
            attacked = self.attack.resume(target, x, y, index, threat, begin)
        right = _verdicts(subject, attacked, y, self.masks)
        made = {"right": right}
        return made if self.moved is None else {**made, "moved": _moves(attacked, x)}


def _moves(attacked: Array, x: Array) -> Moves:
    return (attacked - x).astype(np.float16)


def _begin(experiment: Experiment, x: Array, moved: Moves) -> Array:
    """Return where samples were moved last."""
    return experiment.threat.project(floats(x + moved), x)


def _verdicts(subject: Subject, x: Array, y: Labels, masks: Sequence[Array]) -> Flags:
    """Return which samples each of k masks leaves the model right on, bool [k, n]."""
    head = subject.once("masked head", lambda: _head_of(subject.first))
    if head is None:
        return np.stack([subject.masks.target(mask).correct(x, y) for mask in masks])
    features, _ = subject.targets[SOURCE].features_and_logits(x)
    return np.stack([is_right(head.logits(features, mask), y) for mask in masks])


def _head_of(experiment: Experiment) -> MaskedHead | None:
    classifier, device = experiment.classifier, experiment.device
    logits = classifier.scores.logits
    return MaskedHead.of(experiment.attacked(), classifier.head, logits, device.host)
