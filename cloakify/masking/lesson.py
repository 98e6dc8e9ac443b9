"""What a step of a tuning asks of its samples, and what comes of it: a gradient of the gates.

A step's samples are cut into *shards*, one for each run of a session. A shard is attacked and
differentiated by itself, so that it may be done anywhere; the gradients are added in the shards'
order, whoever did them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cloakify.attacks import ThreatModel
from cloakify.attacks.starts import random_in_ball
from cloakify.data import Batch
from cloakify.masking.course import Draw
from cloakify.masking.gated import GatedModel
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.numeric.arrays import (
    Array,
    Counts,
    Doubles,
    Flags,
    Indices,
    Labels,
    floats,
    in_chunks,
    sigmoid,
    softmax,
)
from cloakify.numeric.judging import is_right


@dataclass(frozen=True, eq=False, kw_only=True)
class Lesson:
    """What one step learns from n samples.

    Attributes
    ----------
    draw
        The samples.
    is_clean
        bool [n]: which of them are not attacked.
    weight
        float64 [n]: how much each counts; 1 in all, of all samples of the step.
    gates
        What the gates are set to, float64 [count].
    eps, attack_steps
        The budget, and how many steps the attack takes.
    number
        Of the step; tells its random starts from those of others.
    answers
        What the source answers, see :func:`answers_of`; ``None`` where it is to be asked.
    """

    draw: Draw
    is_clean: Flags
    weight: Doubles
    gates: Doubles
    eps: float
    attack_steps: int
    number: int
    answers: Array | None = None

    def at(self, rows: Indices) -> Lesson:
        """Return the same of some of the samples."""
        return replace(
            self,
            draw=self.draw.at(rows),
            is_clean=self.is_clean[rows],
            weight=self.weight[rows],
            answers=None if self.answers is None else self.answers[rows],
        )


@dataclass(frozen=True, eq=False)
class Learned:
    """What k shards have learned.

    Attributes
    ----------
    loss
        float64 [k]: the weighted losses of each.
    right
        int64 [k]: right answers on attacked samples.
    gradient
        float64 [k, count]: ∂loss/∂gate.
    """

    loss: Doubles
    right: Counts
    gradient: Doubles


def learn(
    model: GatedModel,
    lesson: Lesson,
    batch: Batch,
    threat: ThreatModel,
    plan: TuningPlan,
    size: int,
) -> Learned:
    """Attack and differentiate samples, shard by shard, side by side; sets the gates.

    Parameters
    ----------
    batch
        What ``lesson.draw.samples`` are, read.
    threat
        Ball and box; its budget is not used.
    plan
        How they are attacked.
    size
        Samples in a shard, but for the last one.

    Raises
    ------
    UnsupportedOperatorError
        The graph has no gradient.
    """
    x, y = lesson.draw.inputs(floats(batch.x)), batch.y[: len(lesson.draw)]
    shards = in_chunks(np.arange(len(x)), size)
    workers = model.target.workers
    if lesson.answers is None:
        # The gates are the model's: one after the other, not shard by shard.
        model.set(model.neutral)
        parts = workers.map(lambda rows: model.target.logits(x[rows]), shards)
        answers = answers_of(np.concatenate(parts), independent=model.target.independent)
        lesson = replace(lesson, answers=answers)
    model.set(lesson.gates)

    def one(number: int) -> tuple[float, int, Doubles]:
        rows = shards[number]
        return _learn_shard(model, lesson.at(rows), x[rows], y[rows], threat, plan)

    losses, right, gradients = zip(*workers.map(one, range(len(shards))), strict=True)
    return Learned(np.array(losses), np.array(right, np.int64), np.stack(gradients))


def attack_batch(
    model: GatedModel, batch: Batch, threat: ThreatModel, plan: TuningPlan, steps: int, number: int
) -> Array:
    """Attack samples with the gates as they are set: from a random start, ``steps`` steps.

    Parameters
    ----------
    steps
        How many.
    number
        Tells the random starts of one step of the tuning from those of another.
    """
    clean = floats(batch.x)
    if threat.eps == 0:
        return clean
    x = random_in_ball(clean, batch.index, [number] * len(clean), threat, plan.seed)
    step_size = plan.step_ratio * threat.eps / steps**0.5
    for _ in range(steps):
        x = model.target.step(x, batch.y, clean, threat, step_size).x
    return x


def _learn_shard(
    model: GatedModel,
    lesson: Lesson,
    x: Array,
    y: Labels,
    threat: ThreatModel,
    plan: TuningPlan,
) -> tuple[float, int, Doubles]:
    """Return loss, right answers on attacked samples, and gradient."""
    attacked = np.flatnonzero(~lesson.is_clean)
    x = x.copy()
    if len(attacked):
        part = Batch(x[attacked], y[attacked], lesson.draw.index[attacked])
        ball = threat.with_eps(lesson.eps)
        x[attacked] = attack_batch(model, part, ball, plan, lesson.attack_steps, lesson.number)
    assert lesson.answers is not None, "the source has been asked for all shards at once"
    shard = model.gradient(x, floats(lesson.answers * lesson.weight[:, None]))
    right = is_right(shard.logits, y)[attacked]
    return shard.loss, int(right.sum()), shard.gradient


def clean_rows(count: int, share: float) -> Flags:
    """Return which of a step's samples are left clean, bool [count]: evenly among all shards."""
    so_far = np.floor(share * np.arange(count + 1))
    clean: Flags = np.diff(so_far) > 0
    return clean


def answers_of(logits: Array, *, independent: bool) -> Array:
    """Return the probabilities [n, C] that the source's logits on clean samples stand for.

    Of K labels those that each holds, and that it does not: [n, 2 K].
    """
    if independent:
        return np.concatenate([sigmoid(logits), sigmoid(-logits)], axis=1)
    return softmax(logits, axis=1)
