"""Attack source, hardened model and control on the same samples, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, join, to_arrays, to_records
from cloakify.evaluation.robustness import Attacks, Correctness, compare_targets
from cloakify.evaluation.samples import Samples
from cloakify.experiment.subject import Subject, Which
from cloakify.numeric.arrays import Indices, in_chunks


@dataclass(frozen=True)
class Comparing(Task[Subject]):
    """Attacks several models on the same samples.

    Attributes
    ----------
    models
        The first one is the baseline.
    attacks
        What they are attacked by.
    """

    models: tuple[Which, ...]
    attacks: Attacks
    name = "evaluating"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        targets = [subject.target(which) for which in self.models]
        threat, calibration = subject.first.threat, subject.attack(self.attacks.calibration)
        attacks = replace(self.attacks, calibration=calibration)
        return to_arrays(compare_targets(targets, attacks, threat, Samples.of(batch)))


def comparing(
    subject: Subject, models: tuple[Which, ...], attacks: Attacks, indices: Indices
) -> Job[Subject]:
    """Return the job of attacking several models on samples."""
    # Several batches at once, so that attacks which drop fooled samples still fill theirs.
    return Job(Comparing(models, attacks), in_chunks(indices, subject.targets[0].span))


def compare(
    engine: Engine[Subject], job: Job[Subject], tell: Callable[[int], None]
) -> list[Correctness]:
    """Do the job of :func:`comparing`; return what each model withstands."""
    parts = [to_records(Correctness, part) for part in engine.map(job, tell)]
    return [join(of_model) for of_model in zip(*parts, strict=True)]
