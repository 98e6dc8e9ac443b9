"""Tune gates through the whole network: adversarial training of factors and shifts of channels.

Each step attacks a batch of the fit split once, from a random start (FGSM-RS; Wong, Rice and
Kolter, arXiv 2001.03994: a step of 1.25 ε, cut to the ball), and moves the gates down the gradient
of the loss at the attacked samples. No weight is touched. Gates of channels are too few to overfit
a thousand samples; those of positions are not, and can be tuned on mixtures
(:mod:`~cloakify.masking.mixing`).

What attacked samples are to be answered with is not their label but what the source answers on
the clean ones, with all its doubts (adversarially robust distillation; Goldblum, Fowl, Feizi and
Goldstein, arXiv 1905.09747): the same robustness then costs less clean accuracy.

From time to time the gates are tried on the select split, on clean samples and under PGD; what is
kept in the end is chosen there (:mod:`~cloakify.masking.gate_choice`). A single step is a weak
attack at large budgets, and training on it can suddenly stop meaning anything (catastrophic
overfitting, same paper): both show as a gap between the accuracies under one step and under PGD,
and are answered by more steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from cloakify.attacks import ThreatModel
from cloakify.attacks.starts import random_in_ball
from cloakify.data import Batch, Dataset
from cloakify.masking.gated import GatedModel
from cloakify.masking.mixing import mixed
from cloakify.masking.optimiser import Kind, Parameters, cosine
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

# (gates) -> how the select split fares
Evaluate = Callable[[Doubles], "GateMetrics"]


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
        What clean accuracy may be spent on the select split. The weight of the clean samples
        doubles with every point over that at a check and halves with every point under.
    checks
        How often the gates are tried on the select split.
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
class GateMetrics:
    """How the select split fared.

    Attributes
    ----------
    count
        Samples that were attacked.
    clean_count, clean
        Samples that were tried clean, which cost little and are more, and right answers on them.
    robust
        Right answers of ``count`` under PGD (and clean).
    single
        The same under one step of the attack that the tuning uses.
    changed
        Of the clean samples, those that the gates have made right or wrong.
    """

    count: int
    clean_count: int
    clean: int
    robust: int
    single: int
    changed: int

    @property
    def conservative_clean(self) -> float:
        """Right clean answers, less one standard error of their change.

        That is the root of ``changed``, as in McNemar's test: a loss on a few samples says little
        of other samples, and a budget is to be kept on those.
        """
        return self.clean - float(np.sqrt(self.changed))


@dataclass(frozen=True)
class Checkpoint:
    """Gates that were tried: after which step, their parameters, and how they fared."""

    step: int
    theta: Doubles
    metrics: GateMetrics


@dataclass(frozen=True)
class TuningState:
    """A tuning run between two steps: all that it takes to go on.

    Attributes
    ----------
    step
        Steps taken.
    adam
        The parameters under way.
    attack_steps
        Steps of the attack on the fit split; 1 until that stops being enough.
    clean_weight
        Weight of a clean sample, an attacked one having 1.
    checkpoints
        What was tried, in order; the first are gates of 1.
    """

    step: int
    adam: Adam
    attack_steps: int = 1
    clean_weight: float = 1.0
    checkpoints: tuple[Checkpoint, ...] = field(default=())

    @classmethod
    def fresh(cls, parameters: Parameters) -> TuningState:
        """Return the start of a run with such parameters."""
        return cls(0, Adam.at(parameters.neutral))

    @property
    def best(self) -> Checkpoint:
        """What stood firmest under PGD; the earliest of equals."""
        return max(self.checkpoints, key=lambda point: point.metrics.robust)


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
    dataset: Dataset,
    fit: Labels,
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
    dataset, fit
        The samples to tune on.
    threat
        What the attacker may do.
    plan
        How to tune.
    parameters
        What is tuned.
    evaluate
        Tries gates on the select split.
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
    state = state or TuningState.fresh(parameters)
    try:
        if not state.checkpoints:
            state = _guarded(_checked(state, plan, parameters, evaluate))
        every = max(1, plan.steps // plan.checks)
        for batch in _batches(dataset, fit, plan, state.step):
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
    model.set(parameters.values(state.adam.theta))
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
    adam = parameters.stepped(state.adam, backward.gradient, rate)
    right = float(is_right(backward.logits, batch.y)[left:].mean())
    return replace(state, step=state.step + 1, adam=adam), backward.loss, right


def _source_answers(model: GatedModel, batch: Batch) -> Array:
    """Return the source's probabilities [n, C] on the samples as they are; sets gates of 1.

    Of K labels those that each holds, and that it does not: [n, 2 K].
    """
    model.set(model.neutral)
    logits = model.target.logits(floats(batch.x))
    if model.target.independent:
        return np.concatenate([sigmoid(logits), sigmoid(-logits)], axis=1)
    return softmax(logits, axis=1)


def _batches(dataset: Dataset, fit: Labels, plan: TuningPlan, done: int) -> Iterator[Batch]:
    """Yield the batches of the steps that are left: the fit split over and over, shuffled anew."""
    wanted = plan.steps * plan.batch_size
    rounds = -(-wanted // len(fit))
    order = np.concatenate(
        [np.random.default_rng([plan.seed, number]).permutation(fit) for number in range(rounds)]
    )
    return dataset.batches(order[done * plan.batch_size : wanted], plan.batch_size)


def _checked(
    state: TuningState, plan: TuningPlan, parameters: Parameters, evaluate: Evaluate
) -> TuningState:
    """Try the gates of a state and note how they fared."""
    metrics = evaluate(parameters.values(state.adam.theta))
    point = Checkpoint(state.step, state.adam.theta, metrics)
    checkpoints = (*state.checkpoints, point)
    lost = (checkpoints[0].metrics.clean - metrics.clean) / metrics.clean_count
    over = lost - plan.max_accuracy_drop
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
        return replace(stronger, adam=Adam.at(state.best.theta))
    return stronger


def _stale(state: TuningState) -> int:
    """Return how many checks there have been since the best."""
    return len(state.checkpoints) - 1 - state.checkpoints.index(state.best)
