"""What `evaluate` does with chunks of samples: looking at models, and everything of its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cloakify.attacks import Attack
from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, join, to_arrays, to_records, untold
from cloakify.evaluation.attack_models import attack_models, attacked_together
from cloakify.evaluation.attack_results import AttackPlan, AttackResults
from cloakify.evaluation.planted_samples import PlantedTest, planted_in, try_planted
from cloakify.evaluation.probes import Probes, probe_model
from cloakify.evaluation.samples import Samples
from cloakify.experiment.subject import Subject, Which, name_of
from cloakify.numeric.arrays import Indices, in_chunks


@dataclass(frozen=True)
class Looking(Task[Subject]):
    """Looks at outputs and gradients of one of the models.

    Attributes
    ----------
    which
        The model.
    gradients
        See :func:`~cloakify.evaluation.probes.probe_model`.
    """

    which: Which
    gradients: bool

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"looking-{name_of(self.which)}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        target, threat = subject.target(self.which), subject.first.threat
        return to_arrays([probe_model(target, threat, Samples.of(batch), gradients=self.gradients)])


@dataclass(frozen=True)
class Planting(Task[Subject]):
    """Tries attacks where there is something to find.

    What it makes is ``planted``, ``found`` and ``obstacle``; see
    :class:`~cloakify.evaluation.planted_samples.PlantedTest`.

    Attributes
    ----------
    which
        The model.
    attacks, seed
        See :func:`~cloakify.evaluation.planted_samples.try_planted`.
    """

    which: Which
    attacks: tuple[Attack, ...]
    seed: int
    is_dealt = False

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"planting-{name_of(self.which)}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        target, threat = subject.target(self.which), subject.first.threat
        test = try_planted(target, self.attacks, threat, Samples.of(batch), self.seed)
        assert test is not None
        made = (test.planted, test.found, test.obstacle)
        return dict(zip(("planted", "found", "obstacle"), map(np.array, made), strict=True))


@dataclass(frozen=True)
class Attacking(Task[Subject]):
    """Tries everything of a plan on all models.

    Attributes
    ----------
    plan
        Without the given copies: those are the subject's.
    models
        How many models there are.
    """

    plan: AttackPlan
    models: int
    name = "attacking"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        plan = replace(self.plan, given_copies=subject.copies)
        results = attack_models(
            subject.targets, plan, subject.first.threat, Samples.of(batch), tell
        )
        return to_arrays(results)

    def work(self, index: Indices) -> int:
        """Return how many steps along a gradient it takes at most."""
        return self.plan.work(index) * self.models


def looking(
    subject: Subject, which: Which, gradients: bool, indices: Indices | None = None
) -> Job[Subject]:
    """Return the job of looking at a model, on all samples or some of them."""
    if indices is None:
        indices = np.arange(len(subject.first.dataset))
    return Job(Looking(which, gradients), in_chunks(indices, subject.target(which).span))


def attacking(subject: Subject, plan: AttackPlan, parts: int) -> Job[Subject]:
    """Return the job of trying everything of a plan, in so many parts at least if it is large."""
    dataset, target = subject.first.dataset, subject.targets[0]
    chunks = attacked_together(
        len(dataset), dataset.sample_shape, target.batch_size, target.span, parts
    )
    task = Attacking(replace(plan, given_copies=None), len(subject.targets))
    return Job(task, chunks)


def planting(
    which: Which, attacks: Sequence[Attack], indices: Indices, seed: int
) -> list[Job[Subject]]:
    """Return the job of trying attacks where there is something to find; none without attacks."""
    if not attacks:
        return []
    return [Job(Planting(which, tuple(attacks), seed), [planted_in(indices)])]


def plant(engine: Engine[Subject], jobs: Sequence[Job[Subject]]) -> PlantedTest | None:
    """Do what :func:`planting` returns."""
    if not jobs:
        return None
    (job,) = jobs
    assert isinstance(job.task, Planting)
    (made,) = engine.map(job, untold)
    names = tuple(attack.name for attack in job.task.attacks)
    return PlantedTest(names, int(made["planted"]), int(made["found"]), str(made["obstacle"]))


def look(
    engine: Engine[Subject], jobs: list[Job[Subject]], tell: Callable[[int], None]
) -> list[Probes]:
    """Do the jobs of :func:`looking`; return what is seen of each model."""
    return [join([to_records(Probes, part)[0] for part in engine.map(job, tell)]) for job in jobs]


def attack(
    engine: Engine[Subject], job: Job[Subject], plan: AttackPlan, tell: Callable[[int], None]
) -> list[AttackResults]:
    """Do the job of :func:`attacking`; return what each model withstands."""
    task = job.task
    assert isinstance(task, Attacking)
    samples = sum(map(len, job.chunks))
    every = [AttackResults.of(plan, task.models, samples) for _ in range(task.models)]
    for chunk, part in zip(job.chunks, engine.map(job, tell), strict=True):
        for results, some in zip(every, to_records(AttackResults, part), strict=True):
            results.put(chunk, some)
    return every
