"""Choose the gates that are shipped: what stood firmest on the select split, at an allowed price.

The constraint is kept by construction: of all checkpoints only those within it count, by a
standard error (:attr:`~cloakify.masking.tuning_state.GateMetrics.drop`). Where the firmest or the
last costs too much it is drawn back towards the source, ``gate^t`` and ``t · shift``; where it
costs less than is allowed it is tried further away from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloakify.errors import GateError
from cloakify.masking.optimiser import Parameters
from cloakify.masking.tuning import Evaluate
from cloakify.masking.tuning_state import Checkpoint, GateMetrics
from cloakify.numeric.arrays import Doubles
from cloakify.printable import in_percent

# Strengths at which gates are tried again. Beyond what was tuned robustness soon rises no more, and
# what is expected of clean accuracy falls behind what is lost.
STRENGTHS = tuple(number / 20 for number in range(1, 24))


@dataclass(frozen=True)
class GateChoice:
    """The chosen gates.

    Attributes
    ----------
    theta, gates
        Their parameters, of several folds the first's, and what these stand for; [count].
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
    """Choose gates of the best accuracy under PGD within the accuracy budget.

    The last of those that are within a standard error of the best: the learning rate falls to 0, so
    that what is last is best unless it shows that something went wrong.

    Parameters
    ----------
    checkpoints
        What was tried, gates of 1 first.
    parameters
        What they mean; binary gates have no other strength.
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
    tried = checkpoints[1:]
    choices = [_chosen(parameters, point, 1.0, point.metrics, before) for point in tried]
    if parameters.kind == "positive" and tried:
        firmest = max(tried, key=lambda point: point.metrics.robust)
        for point in {firmest.step: firmest, tried[-1].step: tried[-1]}.values():
            strength = _strongest(point, allowed_drop, drop)
            if strength not in (0, 1):
                metrics = evaluate(strength * point.theta)
                choices.append(_chosen(parameters, point, strength, metrics, before))
    allowed = [choice for choice in choices if choice.metrics.drop <= allowed_drop]
    most = max((choice.metrics.robust for choice in allowed), default=0)
    noise = math.sqrt(most * (before.count - most) / before.count)
    firm = [
        choice
        for choice in allowed
        if choice.metrics.robust >= max(before.robust + 1, most - noise)
    ]
    best = max(firm, key=lambda choice: (choice.step, choice.metrics.robust), default=None)
    if best is None:
        raise GateError(
            f"no gates within {in_percent(max_accuracy_drop)} of clean accuracy, by a standard "
            f"error, resist PGD any better on {before.count} samples that they were not tuned on; "
            "no file was written; give more data or a larger --max-accuracy-drop"
        )
    return best


def _chosen(
    parameters: Parameters,
    point: Checkpoint,
    strength: float,
    metrics: GateMetrics,
    before: GateMetrics,
) -> GateChoice:
    theta = strength * point.theta[0]
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
