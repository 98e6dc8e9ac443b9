"""How long gates will be tuned, from what the first samples took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cloakify.data import Splits
from cloakify.experiment.subject import Subject
from cloakify.hardening.gate_evaluator import ATTACKED_SAMPLES, CLEAN_SAMPLES
from cloakify.hardening.gate_layers import sites_for
from cloakify.hardening.gate_tasks import PGD_STEPS, gated_model, shard_size
from cloakify.hardening.tuning_plan import folds_of, make_plan
from cloakify.masking.course import Draw
from cloakify.masking.lesson import Lesson, answers_of, clean_rows, learn
from cloakify.numeric.arrays import evenly, floats
from cloakify.settings import HardenSetting

# Besides those that are planned: before the first step, and in the end of gates drawn back, twice,
# and of the samples that were learned from.
FURTHER_CHECKS = 4
# Strengths that are tried for what they cost, of two checkpoints.
STRENGTHS_TRIED = 10

# How often, at most, and for how many seconds work is timed.
RUNS, ENOUGH = 5, 0.3


@dataclass(frozen=True)
class TuningPace:
    """Seconds that a model with gates takes for a sample.

    Attributes
    ----------
    forward
        To answer it.
    attack
        For a step of the attack on it.
    gradient
        For the gradient of its loss with respect to the gates.
    """

    forward: float
    attack: float
    gradient: float


def measure_tuning(subject: Subject, setting: HardenSetting, splits: Splits) -> TuningPace:
    """Learn from as many samples as the device takes at once; their gates are of no matter.

    What is gated is settled (:func:`~cloakify.hardening.gate_layers.settled`).

    Raises
    ------
    UsageError
        No layer matches, or an option is out of its range.
    ModelError
        There is no layer to tune, or its gates can't be folded.
    UnsupportedOperatorError
        The graph has no gradient.
    """
    experiment = subject.first
    model = gated_model(subject, sites_for(experiment.classifier.file.outline, experiment, setting))
    plan, size = make_plan(setting, len(splits.fit)), shard_size(experiment)
    index = evenly(splits.fit, min(plan.batch_size, size * model.target.workers.count))
    count, batch = len(index), experiment.dataset.batch(index)
    x = floats(batch.x)
    model.set(model.neutral)
    lesson = Lesson(
        draw=Draw(index),
        # As in a step, so that batches are filled as they will be.
        is_clean=clean_rows(count, plan.clean_share),
        weight=np.full(count, 1 / count),
        gates=model.neutral,
        eps=experiment.threat.eps,
        attack_steps=1,
        number=0,
        answers=answers_of(model.target.logits(x), independent=model.target.independent),
    )
    clean = replace(lesson, is_clean=np.ones(count, np.bool_))

    def seconds(work: Callable[[], object]) -> float:
        # What opens a session is not to be counted.
        work()
        begun, runs, spent = time.perf_counter(), 0, 0.0
        while runs < RUNS and spent < ENOUGH:
            work()
            runs, spent = runs + 1, time.perf_counter() - begun
        return spent / runs / count

    forward = seconds(lambda: model.target.logits(x))
    gradient = seconds(lambda: learn(model, clean, batch, experiment.threat, plan, size))
    both = seconds(lambda: learn(model, lesson, batch, experiment.threat, plan, size))
    attack = max(0.0, both - gradient) / (1 - float(lesson.is_clean.mean()))
    return TuningPace(forward, attack, gradient)


def outlook_of_tuning(
    subject: Subject, setting: HardenSetting, splits: Splits, pace: TuningPace
) -> tuple[str, float]:
    """Return what tuning gates is, in words, and how many seconds it will take."""
    experiment, further = subject.first, subject.further
    extra = 0 if further is None else len(further.indices)
    plan = make_plan(setting, len(splits.fit) + extra)
    folds, held_out = folds_of(splits, experiment.dataset.labels, plan.seed)
    held = sum(map(len, held_out))
    step = pace.gradient + (1 - plan.clean_share) * plan.attack_steps * pace.attack
    whole = plan.steps * plan.batch_size * step
    whole += max(1, plan.mixtures) * (len(folds[0]) + extra) * pace.forward
    answered = min(CLEAN_SAMPLES, held) * pace.forward
    attacked = min(ATTACKED_SAMPLES, held) * ((PGD_STEPS + 1) * pace.attack + 2 * pace.forward)
    whole += (plan.checks + FURTHER_CHECKS) * (attacked + answered) + STRENGTHS_TRIED * answered
    return f"{plan.steps} steps of {plan.batch_size} samples tune gates", whole
