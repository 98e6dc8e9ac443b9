"""Tune gates through the whole network: adversarial training of factors and shifts of channels.

Each step attacks a batch of the fit split, from a random start and cut to the ball (Wong, Rice and
Kolter, arXiv 2001.03994, who take a single step, of 1.25 ε), and moves the gates down the gradient
of the loss at the attacked samples. No weight is touched. Gates of channels are too few to overfit
a thousand samples; those of positions are not, and can be tuned on mixtures
(:mod:`~cloakify.masking.mixing`).

What attacked samples are to be answered with is not their label but what the source answers on
the clean ones, with all its doubts (adversarially robust distillation; Goldblum, Fowl, Feizi and
Goldstein, arXiv 1905.09747): the same robustness then costs less clean accuracy.

Few samples are cross-fitted: the gates that come of it learn from all of them, in most
steps; in the others each half is tuned on by itself and tried on the other. So all samples are
learned from, and all tell what that costs on samples that were not.

From time to time the gates are tried on held-out samples, clean and under PGD; what is kept in the
end is chosen there (:mod:`~cloakify.masking.gate_choice`). Few steps are a weak
attack at large budgets, and training on them can suddenly stop meaning anything (catastrophic
overfitting, same paper): both show as a gap between the accuracies under one step and under PGD,
and are answered by more steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cloakify.attacks import ThreatModel
from cloakify.masking.course import Course, Draw
from cloakify.masking.lesson import Learned, Lesson, clean_rows
from cloakify.masking.optimiser import Parameters, cosine
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.masking.tuning_state import Checkpoint, GateMetrics, TuningState
from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Doubles

# The share of samples that withstand one step but not PGD from which on one step is too weak; at
# small budgets it stays below. And the steps that are enough for any budget.
BLIND, MOST_STEPS = 0.15, 3

# A fall of accuracy under PGD that is more than the noise of a few hundred samples.
COLLAPSE = 0.1

# Of the weight of clean samples beside attacked ones. Where more would be needed, robustness is
# better given up by drawing the gates back in the end.
CLEAN_WEIGHT_RANGE = (0.0, 2.0)

# (what to learn, the samples of the next step if there is one) -> what was learned, shard by shard
Learn = Callable[[Lesson, Draw | None], Learned]

# (parameters of each fold [folds, count]) -> how the samples fare that it was not tuned on
Evaluate = Callable[[Doubles], GateMetrics]


@dataclass(frozen=True)
class StepReport:
    """What a step saw: mean loss, and the share of right answers on its attacked samples."""

    step: int
    steps: int
    loss: float
    accuracy: float
    metrics: GateMetrics | None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: by its plan, for want of anything better, or by the user."""

    state: TuningState
    end: Literal["done", "patience", "interrupted"]


def tune(
    learn: Learn,
    course: Course,
    threat: ThreatModel,
    plan: TuningPlan,
    parameters: Parameters,
    evaluate: Evaluate,
    state: TuningState | None = None,
    report: Callable[[StepReport], None] = lambda report: None,
    keep: Callable[[TuningState], None] = lambda state: None,
) -> Outcome:
    """Tune the gates.

    A `KeyboardInterrupt` ends the run at the last check; nothing that was tried is lost.

    Parameters
    ----------
    learn
        Does what a step asks of its samples; told besides which ones come next.
    course
        The samples to tune on; of several sets, each has parameters of its own, and the first's are
        those that matter.
    threat
        What the attacker may do.
    plan
        How to tune.
    parameters
        What is tuned.
    evaluate
        Tries gates on held-out samples.
    state
        Where an earlier run stood, to go on from there.
    report
        Called after every step.
    keep
        Called with the state after every check, for whoever wants to save it.

    Raises
    ------
    UnsupportedOperatorError
        The graph has no gradient.
    """
    state = state or TuningState.fresh(parameters, course.folds, plan.attack_steps)
    try:
        if not state.checkpoints:
            state = _checked(state, plan, evaluate)
        every = max(1, plan.steps // plan.checks)
        for _ in range(state.step, plan.steps):
            state, loss, accuracy = _step(learn, course, threat, plan, parameters, state)
            due = state.step % every == 0 or state.step == plan.steps
            if due:
                state = _guarded(_checked(state, plan, evaluate))
                keep(state)
            metrics = state.checkpoints[-1].metrics if due else None
            report(StepReport(state.step, plan.steps, loss, accuracy, metrics))
            if due and _stale(state) >= plan.patience:
                return Outcome(state, "patience")
    except KeyboardInterrupt:
        if not state.checkpoints:
            raise
        return Outcome(state, "interrupted")
    return Outcome(state, "done")


def _step(
    learn: Learn,
    course: Course,
    threat: ThreatModel,
    plan: TuningPlan,
    parameters: Parameters,
    state: TuningState,
) -> tuple[TuningState, float, float]:
    """Take one step; return the new state, the mean loss, and the share of right answers."""
    step, draw = state.step, course.draw(state.step)
    fold = course.fold(step)
    rise = min(1.0, (step + 1) / max(1.0, plan.warmup * plan.steps))
    is_clean = clean_rows(len(draw), plan.clean_share)
    weight = np.where(is_clean, state.clean_weight, 1.0)
    lesson = Lesson(
        draw=draw,
        is_clean=is_clean,
        weight=weight / weight.sum(),
        gates=parameters.values(state.adams[fold].theta),
        eps=threat.eps * rise,
        attack_steps=state.attack_steps,
        number=step,
    )
    upcoming = course.draw(step + 1) if step + 1 < plan.steps else None
    learned = learn(lesson, upcoming)
    rate = plan.rate * cosine(step, plan.steps)
    adams = list(state.adams)
    adams[fold] = parameters.stepped(adams[fold], learned.gradient.sum(axis=0), rate)
    right = int(learned.right.sum()) / int((~is_clean).sum())
    return replace(state, step=step + 1, adams=tuple(adams)), sum(learned.loss.tolist()), right


def _checked(state: TuningState, plan: TuningPlan, evaluate: Evaluate) -> TuningState:
    """Try the gates of a state and note how they fared."""
    metrics = evaluate(state.theta)
    checkpoints = (*state.checkpoints, Checkpoint(state.step, state.theta, metrics))
    over = metrics.lost / metrics.clean_count - plan.max_accuracy_drop
    weight = state.clean_weight if len(checkpoints) == 1 else state.clean_weight * 2 ** (100 * over)
    return replace(
        state, checkpoints=checkpoints, clean_weight=float(np.clip(weight, *CLEAN_WEIGHT_RANGE))
    )


def _guarded(state: TuningState) -> TuningState:
    """Take one attack step more where gates withstand a single one, and fall to PGD.

    Where it came about while accuracy under PGD fell, the run has overfitted to its attack
    (catastrophically): it goes back to its best gates.
    """
    last, best = state.checkpoints[-1].metrics, state.best.metrics
    if last.single - last.robust <= BLIND * last.count or state.attack_steps == MOST_STEPS:
        return state
    stronger = replace(state, attack_steps=state.attack_steps + 1)
    if best.robust - last.robust > COLLAPSE * last.count:
        return replace(stronger, adams=tuple(map(Adam.at, state.best.theta)))
    return stronger


def _stale(state: TuningState) -> int:
    """Return how many checks there have been since the best."""
    return len(state.checkpoints) - 1 - state.checkpoints.index(state.best)
