"""What tuning has done with samples: to learn from them, to try gates on them, to measure them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from cloakify.attacks import Pgd
from cloakify.attacks.target import AT_ONCE
from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.evaluation.attack_models import withstands
from cloakify.evaluation.samples import Samples
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.subject import Subject
from cloakify.graph.analysis.gate_sites import GateSite
from cloakify.masking.course import Course, Draw
from cloakify.masking.gated import GatedModel
from cloakify.masking.lesson import Learned, Lesson, answers_of, attack_batch, learn
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.numeric.arrays import Array, Doubles, Indices, floats, in_chunks
from cloakify.runtime import fitting_batch_size

# Of the attack that gates are tried by.
PGD_STEPS = 10

# Numbers of the source's answers that are remembered, 64 MiB of them.
REMEMBERED = 1 << 24


@dataclass(frozen=True, eq=False)
class _OnGates(Task[Subject]):
    """A task on the first classifier with gates.

    What it makes is soon out of date, and what counts of it is in the state of the tuning.

    Attributes
    ----------
    sites
        Where the gates stand.
    plan
        How they are tuned.
    """

    sites: tuple[GateSite, ...]
    plan: TuningPlan
    is_kept = False

    def model(self, subject: Subject) -> GatedModel:
        """Return the classifier with gates; it stays open."""
        return gated_model(subject, self.sites)


@dataclass(frozen=True, eq=False)
class Learning(_OnGates):
    """Learns some shards of a step; see :func:`~cloakify.masking.lesson.learn`."""

    lesson: Lesson
    size: int
    name = "learning"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        threat = subject.first.threat
        learned = learn(self.model(subject), self.lesson, batch, threat, self.plan, self.size)
        return {**vars(learned)}


@dataclass(frozen=True, eq=False)
class Scoring(_OnGates):
    """Makes of n samples ``logits`` [n, C] with gates, and their labels ``y``."""

    gates: Doubles
    name = "scoring"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        model = self.model(subject)
        model.set(self.gates)
        return {"logits": model.target.logits(floats(batch.x)), "y": batch.y}


@dataclass(frozen=True, eq=False)
class Answering(_OnGates):
    """Makes of what is drawn ``answers``, the source's; see :func:`~.lesson.answers_of`."""

    drawn: Draw
    name = "answering"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        model = self.model(subject)
        model.set(model.neutral)
        logits = model.target.logits(self.drawn.inputs(floats(batch.x)))
        return {"answers": answers_of(logits, independent=model.target.independent)}


@dataclass(frozen=True, eq=False)
class Withstanding(_OnGates):
    """Makes of n samples ``single`` and ``robust``, bool [n].

    They tell which are classified rightly under one step of the tuning's attack, and which of these
    under PGD as well.
    """

    gates: Doubles
    name = "withstanding"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        model, plan, threat = self.model(subject), self.plan, subject.first.threat
        model.set(self.gates)
        target, pgd = model.target, Pgd(steps=PGD_STEPS, seed=plan.seed)
        # A number that no step of the tuning has.
        once = attack_batch(model, batch, threat, plan, 1, plan.steps)
        single = target.correct(once, batch.y)
        robust = withstands(pgd, target, Samples.of(batch), threat, single)
        return {"single": single, "robust": robust}


@dataclass(frozen=True, eq=False)
class Measuring(_OnGates):
    """Makes of a chunk ``units``; see :meth:`~cloakify.masking.gated.GatedModel.shift_units`."""

    name = "measuring"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        return {"units": self.model(subject).shift_units(floats(batch.x))}


class GateWork:
    """Has an engine do what a tuning takes.

    Parameters
    ----------
    subject
        The classifier and its data.
    engine
        Who does the work.
    sites, plan
        Where the gates stand, and how they are tuned.
    """

    def __init__(
        self,
        subject: Subject,
        engine: Engine[Subject],
        sites: Sequence[GateSite],
        plan: TuningPlan,
    ) -> None:
        self.sites, self.plan = tuple(sites), plan
        self._engine, self._subject = engine, subject
        self._size = shard_size(subject.first)
        self._known: Indices = np.empty(0, np.int64)
        self._answers: Array = np.empty((0, 0, 0), np.float32)

    def remember(self, course: Course) -> None:
        """Ask the source once for what it answers on what steps will learn from again.

        What is seen but once is asked when it is.
        """
        samples, drawn = course.samples, course.every()
        count = len(samples) * len(drawn)
        seen_again = self.plan.steps * self.plan.batch_size > count
        classes = self._subject.first.classifier.scores.num_classes
        if not seen_again or count * classes > REMEMBERED:
            return
        parts = [draw.at(rows) for draw in drawn for rows in self._chunks(np.arange(len(samples)))]
        tasks = [Answering(self.sites, self.plan, part) for part in parts]
        made = self.do([Job(task, [task.drawn.samples]) for task in tasks])
        answers = np.concatenate([each["answers"] for each in made])
        self._known = samples
        self._answers = answers.reshape(len(drawn), len(samples), -1)

    def units(self, samples: Indices) -> Doubles:
        """Return how large the outputs are that shifts are added to, on samples; [count]."""
        job = Job(Measuring(self.sites, self.plan), [samples])
        (made,) = self._engine.map(job, untold)
        return made["units"]

    def scoring(self, gates: Doubles, samples: Indices) -> Job[Subject]:
        """Return the job of :class:`Scoring` with gates, [count]."""
        return Job(Scoring(self.sites, self.plan, gates), self._chunks(samples))

    def withstanding(self, gates: Doubles, samples: Indices) -> Job[Subject]:
        """Return the job of :class:`Withstanding` with gates, [count]."""
        return Job(Withstanding(self.sites, self.plan, gates), self._chunks(samples))

    def do(self, jobs: Sequence[Job[Subject]]) -> list[Arrays]:
        """Do jobs, side by side; return what each makes of all of its samples."""
        self._engine.begin(jobs)
        made = [list(self._engine.map(job, untold)) for job in jobs]
        return [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in made
        ]

    def learn(self, lesson: Lesson, upcoming: Draw | None) -> Learned:
        """Learn what a step asks for, its shards dealt among all workers; see :data:`Learn`."""
        if len(self._known):
            places = np.searchsorted(self._known, lesson.draw.index)
            mixture = 0 if lesson.draw.mixture is None else lesson.draw.mixture
            lesson = replace(lesson, answers=self._answers[mixture, places])
        dealt = self._deal(lesson.draw)
        coming: list[Indices] = []
        if upcoming is not None:
            coming = [upcoming.at(rows).samples for rows in self._deal(upcoming)]
        jobs = []
        for rows, following in zip_longest(dealt, coming[: len(dealt)]):
            task = Learning(self.sites, self.plan, lesson.at(rows), self._size)
            jobs.append(Job(task, [task.lesson.draw.samples], following))
        self._engine.begin(jobs)
        return _in_turn([Learned(**made) for job in jobs for made in self._engine.map(job, untold)])

    def _chunks(self, samples: Indices) -> Sequence[Indices]:
        return in_chunks(samples, self._size * AT_ONCE)

    def _deal(self, draw: Draw) -> list[Indices]:
        """Return the rows of each worker: those of every so many-th shard."""
        shards = in_chunks(np.arange(len(draw)), self._size)
        width = min(self._engine.width, len(shards))
        return [np.concatenate(shards[place::width]) for place in range(width)]


def _in_turn(parts: Sequence[Learned]) -> Learned:
    """Return shards that were dealt in turn in their order."""
    count = sum(len(part.loss) for part in parts)
    loss, right = np.empty(count), np.empty(count, np.int64)
    gradient = np.empty((count, parts[0].gradient.shape[1]))
    for place, part in enumerate(parts):
        loss[place :: len(parts)] = part.loss
        right[place :: len(parts)] = part.right
        gradient[place :: len(parts)] = part.gradient
    return Learned(loss, right, gradient)


def shard_size(experiment: Experiment) -> int:
    """Return how many samples a shard holds: as planned, whatever had to be halved by now."""
    return experiment.spec.batch_size or min(experiment.batching.first, _fitting(experiment))


def gated_model(subject: Subject, sites: Sequence[GateSite]) -> GatedModel:
    """Return the first classifier with gates, in batches that are worth it; it stays open."""
    experiment = subject.first
    return subject.once(
        "gated",
        lambda: GatedModel(
            experiment.attacked(),
            sites,
            experiment.spec,
            experiment.classifier.scores,
            experiment.dataset.sample_shape,
            experiment.device,
            experiment.batching.at_most(_fitting(experiment)),
        ),
    )


def _fitting(experiment: Experiment) -> int:
    return fitting_batch_size(experiment.dataset.sample_shape, experiment.device)
