"""A model's own answers as the labels of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell
from cloakify.experiment.counting import counted
from cloakify.experiment.experiment import Progress
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Labels, floats, in_chunks
from cloakify.numeric.judging import predicted


@dataclass(frozen=True)
class Labelling(Task[Subject]):
    """Asks the first model for its answers."""

    name = "labels"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        (target, *_) = subject.targets
        logits = target.logits(floats(batch.x))
        return {"answers": predicted(logits, independent=target.independent)}


def label_by_model(subject: Subject, engine: Engine[Subject], progress: Progress) -> Labels:
    """Return the model's answers to all samples; int64 [n] or [n, K]."""
    chunks = in_chunks(np.arange(len(subject.first.dataset)), subject.targets[0].span)
    job = Job(Labelling(), chunks)
    parts = engine.map(job, counted(progress, "labelling by the model", job.work))
    return np.concatenate([part["answers"] for part in parts], dtype=np.int64)
