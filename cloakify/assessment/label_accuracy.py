"""Independent labels under attack: all of them at once, not only the first that falls.

An exact match is lost with one label, and an attack that is after it stops there. How labels fare
one by one is told by samples driven to the highest sum of their losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Attack
from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell
from cloakify.evaluation.label_figures import label_figures
from cloakify.experiment.subject import Subject, Which, name_of
from cloakify.numeric.arrays import Indices, floats, in_chunks
from cloakify.report.records import LabelAccuracy


@dataclass(frozen=True)
class AttackLabels(Task[Subject]):
    """Attacks samples with independent labels.

    Attributes
    ----------
    which
        The model.
    attack
        One that drives samples to their highest loss.
    """

    which: Which
    attack: Attack

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"labels-{name_of(self.which)}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        target, threat, x = subject.target(self.which), subject.first.threat, floats(batch.x)
        moved = self.attack.run(target, x, batch.y, batch.index, threat)
        return {"clean": target.logits(x), "attacked": target.logits(moved)}


def attacking_labels(
    subject: Subject, models: Sequence[Which], attack: Attack, indices: Indices | None = None
) -> list[Job[Subject]]:
    """Return the jobs of attacking samples with independent labels, for each model.

    None where samples have classes.

    Parameters
    ----------
    attack
        One that drives samples to their highest loss.
    indices
        Which samples; all of them when left out.
    """
    target = subject.targets[0]
    if not target.independent:
        return []
    if indices is None:
        indices = np.arange(len(subject.first.dataset))
    chunks = in_chunks(indices, target.span)
    return [Job(AttackLabels(which, attack), chunks) for which in models]


def label_accuracy(
    subject: Subject, engine: Engine[Subject], job: Job[Subject], tell: Callable[[int], None]
) -> LabelAccuracy:
    """Do one of these jobs; measure how each label fares."""
    task = job.task
    assert isinstance(task, AttackLabels)
    parts = list(engine.map(job, tell))
    y = subject.first.labels[np.concatenate(job.chunks)]
    figures = (
        label_figures(floats(np.concatenate([part[side] for part in parts])), y)
        for side in ("clean", "attacked")
    )
    return LabelAccuracy(task.attack.name, subject.first.threat.eps, *figures)
