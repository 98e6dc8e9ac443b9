"""How tried gates fared, and where a tuning run stands between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cloakify.masking.optimiser import Parameters
from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Doubles


@dataclass(frozen=True)
class GateMetrics:
    """How held-out samples fared.

    Attributes
    ----------
    count
        Samples that were attacked.
    clean_count, clean
        Samples that were tried clean, which cost little and are more, and right answers on them.
    robust
        Right answers of ``count`` under PGD, under one step of the attack that the tuning uses, and
        clean.
    single
        Under that one step.
    lost, doubt
        How many right clean answers the gates are expected to cost, and how many more are allowed
        for: a standard error, or none where gates of folds were tried in place of those of all
        samples (:mod:`~cloakify.masking.clean_cost`).
    """

    count: int
    clean_count: int
    clean: int
    robust: int
    single: int
    lost: float
    doubt: float

    @property
    def drop(self) -> float:
        """The clean accuracy that is expected to be lost, as a fraction, and the doubt.

        A loss on a few samples says little of other samples, and a budget is to be kept on those.
        """
        return (self.lost + self.doubt) / self.clean_count


@dataclass(frozen=True)
class Checkpoint:
    """Gates that were tried: after which step, their parameters [folds, count], how they fared."""

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
    adams
        The parameters under way, of each fold.
    attack_steps
        Steps of the attack on the fit split.
    clean_weight
        Weight of a clean sample, an attacked one having 1.
    checkpoints
        What was tried, in order; the first are gates of 1.
    """

    step: int
    adams: tuple[Adam, ...]
    attack_steps: int = 1
    clean_weight: float = 1.0
    checkpoints: tuple[Checkpoint, ...] = field(default=())

    @classmethod
    def fresh(cls, parameters: Parameters, folds: int = 1, attack_steps: int = 1) -> TuningState:
        """Return the start of a run with such parameters, on so many folds."""
        return cls(0, (Adam.at(parameters.neutral),) * folds, attack_steps)

    @property
    def theta(self) -> Doubles:
        """The parameters of each fold, [folds, count]."""
        return np.stack([adam.theta for adam in self.adams])

    @property
    def best(self) -> Checkpoint:
        """What stood firmest under PGD; the earliest of equals."""
        return max(self.checkpoints, key=lambda point: point.metrics.robust)
