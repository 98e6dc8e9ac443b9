"""Do a model's derivatives tell what it does, so that attacks may follow them?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.evaluation.probes import bent_at_borders, turned_behind_layer, untold_moves
from cloakify.evaluation.samples import Samples
from cloakify.evaluation.warnings import EvaluationWarning, shattered_gradients
from cloakify.experiment.subject import Subject, Which, name_of
from cloakify.numeric.arrays import Indices, evenly, floats

# A function of one number hides its slope where it is level for more of the numbers than that; the
# bounded activations of usual models are for fewer.
HIDDEN = 0.05

# Samples whose moves are looked at, and the share of them from which on it is no odd one.
MOVED = 8
UNTOLD = 0.2


@dataclass(frozen=True)
class Slopes:
    """How much of what a model does its derivatives do not tell.

    Attributes
    ----------
    hidden
        For which share of the numbers, or of the samples: by
        :meth:`~cloakify.attacks.Target.hidden_slopes`, by
        :func:`~cloakify.evaluation.probes.bent_at_borders`, or by
        :func:`~cloakify.evaluation.probes.turned_behind_layer`, whichever is more.
    untold
        See :func:`~cloakify.evaluation.probes.untold_moves`.
    """

    hidden: float = 0.0
    untold: float = 0.0

    @property
    def are_hidden(self) -> bool:
        """Whether derivatives do not tell it of more than in usual models."""
        return self.hidden > HIDDEN

    @property
    def are_shattered(self) -> bool:
        """Whether moves do otherwise than they promise, of more samples than an odd one."""
        return self.untold > UNTOLD

    @property
    def hide(self) -> bool:
        """Whether attacks should go through steps and levels that their gradient stops at."""
        return self.are_hidden or self.are_shattered

    @property
    def warnings(self) -> list[EvaluationWarning]:
        """What is to be said of figures of attacks that follow them."""
        return [shattered_gradients(self.untold)] if self.are_shattered else []


@dataclass(frozen=True)
class Sloping(Task[Subject]):
    """Makes ``hidden`` and ``untold`` of a batch; see :class:`Slopes`."""

    which: Which
    is_dealt = False

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"sloping-{name_of(self.which)}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        target, threat = subject.target(self.which), subject.first.threat
        hidden = target.hidden_slopes(floats(batch.x))
        if hidden <= HIDDEN:
            hidden = max(hidden, bent_at_borders(target, threat, batch))
        if hidden <= HIDDEN:
            hidden = max(hidden, turned_behind_layer(target, batch))
        moved = Samples.of(batch).at(evenly(np.arange(len(batch.index)), MOVED))
        return {"hidden": np.array(hidden), "untold": np.array(untold_moves(target, threat, moved))}


def slopes_of(subject: Subject, which: Which, engine: Engine[Subject], indices: Indices) -> Slopes:
    """Return how much of what a model does its derivatives do not tell.

    Parameters
    ----------
    indices
        Of samples to look at: of no more than one batch holds, evenly from all.
    """
    some = evenly(indices, subject.target(which).batch_size)
    (made,) = engine.map(Job(Sloping(which), [some]), untold)
    return Slopes(float(made["hidden"]), float(made["untold"]))
