"""Tune gates through the whole network: adversarial training of factors and shifts of channels.

Each step attacks a batch of the fit split once, from a random start (FGSM-RS; Wong, Rice and
Kolter, arXiv 2001.03994: a step of 1.25 ε, cut to the ball), and moves the gates down the gradient
of the loss at the attacked samples. No weight is touched. Gates of channels are too few to overfit
a thousand samples; those of positions are not, and can be tuned on mixtures
(:mod:`~cloakify.masking.mixing`).

What attacked samples are to be answered with is not their label but what the source answers on
the clean ones, with all its doubts (adversarially robust distillation; Goldblum, Fowl, Feizi and
Goldstein, arXiv 1905.09747): the same robustness then costs less clean accuracy.

Few samples are cross-fitted: each half is tuned on by itself, in turns, and tried on the other; the
gates that come of it are the mean of the two, parameter by parameter. So all samples are learned
from, and all tell what that costs on samples that were not.

From time to time the gates are tried on held-out samples, clean and under PGD; what is kept in the
end is chosen there (:mod:`~cloakify.masking.gate_choice`). A single step is a weak
attack at large budgets, and training on it can suddenly stop meaning anything (catastrophic
overfitting, same paper): both show as a gap between the accuracies under one step and under PGD,
and are answered by more steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from cloakify.attacks import ThreatModel
from cloakify.attacks.starts import random_in_ball
from cloakify.data import Batch
from cloakify.masking.gated import GatedModel
from cloakify.masking.mixing import mixed
from cloakify.masking.optimiser import Kind, Parameters, cosine
from cloakify.masking.tuning_state import Checkpoint, GateMetrics, TuningState
from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Array, Doubles, Labels, floats, sigmoid, softmax
from cloakify.numeric.judging import is_right

# The share of samples that withstand one step but not PGD from which on one step is too weak; at
# small budgets it stays below. And the steps that are enough for any budget.
BLIND, MOST_STEPS = 0.15, 3

# A fall of accuracy under PGD that is more than the noise of a few hundred samples.
COLLAPSE = 0.1

# Beyond that, robustness is better given up by drawing the gates back in the end.
CLEAN_WEIGHT_RANGE = (0.0, 2.0)


class Batches(Protocol):
    """Samples by index, as :class:`~cloakify.data.Dataset` has them."""

    def batches(self, indices: Labels, batch_size: int) -> Iterator[Batch]:
        """Read them in order."""


# (gates of each fold [folds, count]) -> how the samples fare that it was not tuned on
Evaluate = Callable[[Doubles], GateMetrics]


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """How to tune.

    Attributes
    ----------
    steps, batch_size
        Steps of the optimiser and samples in each.
    rate
        Adam's learning rate; it falls to 0 along a cosine.
    step_ratio
        Length of the attack's step, in ε; k steps have 1/√k of it each.
    warmup
        Share of the steps in which ε rises from 0 to its full size.
    clean_share
        Share of each batch that is left clean, so that clean accuracy has a say in the loss.
    max_accuracy_drop
        What clean accuracy may be spent on held-out samples. The weight of the clean samples
        doubles with every point over that at a check and halves with every point under.
    checks
        How often the gates are tried on held-out samples.
    patience
        How many checks in a row may bring nothing better.
    kind
        ``positive`` or ``binary``.
    mix
        Whether samples are mixed with each other (:mod:`~cloakify.masking.mixing`).
    seed
        Of the order of the samples, of their mixing and of the random starts.
    """

    steps: int = 400
    batch_size: int = 128
    rate: float = 0.03
    step_ratio: float = 1.25
    warmup: float = 0.1
    clean_share: float = 0.25
    max_accuracy_drop: float = 0.01
    checks: int = 8
    patience: int = 4
    kind: Kind = "positive"
    mix: bool = False
    seed: int = 0


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
    model: GatedModel,
    dataset: Batches,
    folds: Sequence[Labels],
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
    model
        The gated classifier; its gates are set as the run goes on.
    dataset, folds
        The samples to tune on; of several folds, each has parameters of its own.
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
    state = state or TuningState.fresh(parameters, len(folds))
    try:
        if not state.checkpoints:
            state = _guarded(_checked(state, plan, parameters, evaluate))
        every = max(1, plan.steps // plan.checks)
        for batch in _batches(dataset, folds, plan, state.step):
            state, loss, accuracy = _step(model, batch, threat, plan, parameters, state)
            due = state.step % every == 0 or state.step == plan.steps
            if due:
                state = _guarded(_checked(state, plan, parameters, evaluate))
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


def _step(
    model: GatedModel,
    batch: Batch,
    threat: ThreatModel,
    plan: TuningPlan,
    parameters: Parameters,
    state: TuningState,
) -> tuple[TuningState, float, float]:
    """Take one step; return the new state, the mean loss, and the share of right answers."""
    if plan.mix:
        # Told from the order's generators by a third number, and the same when a run goes on.
        batch = mixed(batch, np.random.default_rng([plan.seed, state.step, 1]))
    answers = _source_answers(model, batch)
    fold = state.step % len(state.adams)
    model.set(parameters.values(state.adams[fold].theta))
    rise = min(1.0, (state.step + 1) / max(1.0, plan.warmup * plan.steps))
    now = threat.with_eps(threat.eps * rise)
    count = len(batch.y)
    left = int(plan.clean_share * count)
    part = Batch(batch.x[left:], batch.y[left:], batch.index[left:])
    moved = attack_batch(model, part, now, plan, state.attack_steps, state.step)
    x = np.concatenate([floats(batch.x[:left]), moved])
    weight = np.ones(count)
    weight[:left] = state.clean_weight
    soft_labels = answers * (weight / weight.sum())[:, None]
    backward = model.gradient(x, soft_labels)
    rate = plan.rate * cosine(state.step, plan.steps)
    adams = list(state.adams)
    adams[fold] = parameters.stepped(adams[fold], backward.gradient, rate)
    right = float(is_right(backward.logits, batch.y)[left:].mean())
    return replace(state, step=state.step + 1, adams=tuple(adams)), backward.loss, right


def _source_answers(model: GatedModel, batch: Batch) -> Array:
    """Return the source's probabilities [n, C] on the samples as they are; sets gates of 1.

    Of K labels those that each holds, and that it does not: [n, 2 K].
    """
    model.set(model.neutral)
    logits = model.target.logits(floats(batch.x))
    if model.target.independent:
        return np.concatenate([sigmoid(logits), sigmoid(-logits)], axis=1)
    return softmax(logits, axis=1)


def _batches(
    dataset: Batches, folds: Sequence[Labels], plan: TuningPlan, done: int
) -> Iterator[Batch]:
    """Yield the batches of the steps that are left: the folds in turn, each shuffled anew."""
    steps = range(plan.steps)
    left = [
        _batches_of(dataset, fold, plan, steps[place :: len(folds)], done)
        for place, fold in enumerate(folds)
    ]
    return (next(left[step % len(folds)]) for step in steps[done:])


def _batches_of(
    dataset: Batches, fold: Labels, plan: TuningPlan, steps: range, done: int
) -> Iterator[Batch]:
    """Yield the batches of one fold, which is tuned on at these steps."""
    wanted = len(steps) * plan.batch_size
    rounds = max(1, -(-wanted // len(fold)))
    order = np.concatenate(
        [np.random.default_rng([plan.seed, number]).permutation(fold) for number in range(rounds)]
    )
    taken = sum(step < done for step in steps)
    return dataset.batches(order[taken * plan.batch_size : wanted], plan.batch_size)


def _checked(
    state: TuningState, plan: TuningPlan, parameters: Parameters, evaluate: Evaluate
) -> TuningState:
    """Try the gates of a state and note how they fared."""
    metrics = evaluate(parameters.values(state.theta))
    checkpoints = (*state.checkpoints, Checkpoint(state.step, state.theta, metrics))
    over = metrics.lost / metrics.clean_count - plan.max_accuracy_drop
    weight = state.clean_weight if len(checkpoints) == 1 else state.clean_weight * 2 ** (100 * over)
    return replace(
        state, checkpoints=checkpoints, clean_weight=float(np.clip(weight, *CLEAN_WEIGHT_RANGE))
    )


def _guarded(state: TuningState) -> TuningState:
    """Take one attack step more where a single one says too little of PGD.

    That may be so from the start, at a large budget. Where it came about while accuracy under PGD
    fell, the run has overfitted to its attack (catastrophically): it goes back to its best gates.
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
