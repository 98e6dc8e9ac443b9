"""Choose the gates that are shipped: what stood firmest on the select split, at an allowed price.

The constraint is kept by construction: of all checkpoints only those within it count, by a
standard error (:attr:`~cloakify.masking.tuning_state.GateMetrics.drop`), and where the
firmest or the last costs too much it is drawn back towards the source: ``gate^t``, ``t · shift``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloakify.errors import GateError
from cloakify.masking.optimiser import Parameters
from cloakify.masking.tuning import Evaluate
from cloakify.masking.tuning_state import Checkpoint, GateMetrics
from cloakify.numeric.arrays import Doubles

# Strengths at which gates that cost too much are tried again.
STRENGTHS = tuple(number / 20 for number in range(1, 20))


@dataclass(frozen=True)
class GateChoice:
    """The chosen gates.

    Attributes
    ----------
    theta, gates
        Their parameters, of several folds the mean, and what these stand for; [count].
    step
        After which step of the tuning they were.
    strength
        t of ``gate^t`` and ``t · shift``; 1 where they were taken as they were.
    metrics, before
        How held-out samples fared with them (with those of each fold), and with gates of 1.
    """

    theta: Doubles
    gates: Doubles
    step: int
    strength: float
    metrics: GateMetrics
    before: GateMetrics


def choose_gates(
    checkpoints: Sequence[Checkpoint],
    parameters: Parameters,
    max_accuracy_drop: float,
    evaluate: Evaluate,
    drop: Callable[[Doubles], float],
) -> GateChoice:
    """Choose the gates with the best accuracy under PGD within the accuracy budget.

    Parameters
    ----------
    checkpoints
        What was tried, gates of 1 first.
    parameters
        What they mean; binary gates can't be drawn back.
    max_accuracy_drop
        How much clean accuracy may be lost on other samples, as a fraction.
    evaluate
        Tries further gates, by their parameters, on samples that they were not tuned on.
    drop
        Tells of such parameters, [folds, count], what they cost, which takes no attack; see
        :attr:`~cloakify.masking.tuning_state.GateMetrics.drop`.

    Raises
    ------
    GateError
        No gates within the budget are any firmer than those of 1.
    """
    before, allowed_drop = checkpoints[0].metrics, max_accuracy_drop + 1e-9
    choices = [_chosen(parameters, point, 1.0, point.metrics, before) for point in checkpoints[1:]]
    if parameters.kind == "positive":
        firmest = max(checkpoints, key=lambda point: point.metrics.robust)
        for point in {firmest.step: firmest, checkpoints[-1].step: checkpoints[-1]}.values():
            if point.metrics.drop <= allowed_drop:
                continue
            strength = _strongest(point, allowed_drop, drop)
            if strength:
                metrics = evaluate(strength * point.theta)
                choices.append(_chosen(parameters, point, strength, metrics, before))
    allowed = [choice for choice in choices if choice.metrics.drop <= allowed_drop]
    best = max(allowed, key=lambda choice: choice.metrics.robust, default=None)
    if best is None or best.metrics.robust <= before.robust:
        raise GateError(
            f"no gates within {max_accuracy_drop:.1%} of clean accuracy, by a standard error, "
            f"resist PGD any better on {before.count} samples that they were not tuned on; no file "
            "was written; give more data or a larger --max-accuracy-drop"
        )
    return best


def _chosen(
    parameters: Parameters,
    point: Checkpoint,
    strength: float,
    metrics: GateMetrics,
    before: GateMetrics,
) -> GateChoice:
    theta = strength * point.theta.mean(axis=0)
    return GateChoice(theta, parameters.values(theta), point.step, strength, metrics, before)


def _strongest(point: Checkpoint, allowed_drop: float, drop: Callable[[Doubles], float]) -> float:
    """Look by halving for the strongest version within the budget; 0 where there is none."""
    weakest, strongest = 0, len(STRENGTHS)
    while weakest < strongest:
        middle = (weakest + strongest) // 2
        if drop(STRENGTHS[middle] * point.theta) <= allowed_drop:
            weakest = middle + 1
        else:
            strongest = middle
    return STRENGTHS[weakest - 1] if weakest else 0.0
