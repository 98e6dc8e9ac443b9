"""Try gates on samples that they were not tuned on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cloakify.data.splits import some_of
from cloakify.engine.task import Arrays, Job
from cloakify.experiment.subject import Subject
from cloakify.hardening.gate_tasks import GateWork
from cloakify.masking.clean_cost import CleanCost
from cloakify.masking.gated import neutral_gates
from cloakify.masking.optimiser import Parameters
from cloakify.masking.tuning_state import GateMetrics
from cloakify.numeric.arrays import Array, Doubles, Indices, Labels
from cloakify.numeric.judging import is_right

# Samples that are attacked; clean ones tell of a point of accuracy only by their number, and cost
# next to nothing.
ATTACKED_SAMPLES = 500
CLEAN_SAMPLES = 4000


class GateEvaluator:
    """Tries gates on samples: clean, under PGD, and under the tuning's own attack.

    What gates that learned from all samples cost of clean accuracy can't be tried on any of these,
    as they know them by heart. What those of each fold cost on samples that they have not seen is
    expected of them, too: it is hardly more, though these learned from fewer samples.

    Parameters
    ----------
    work
        Has it done.
    parameters
        What is tuned.
    labels
        Of all samples.
    held_out
        Which of them the gates of each fold are tried on. Where gates of all samples are given with
        those of the folds, they are the first.
    """

    def __init__(
        self,
        work: GateWork,
        parameters: Parameters,
        labels: Labels,
        held_out: Sequence[Indices],
    ) -> None:
        self._work, self._parameters = work, parameters
        seed, folds = work.plan.seed, len(held_out)
        self._attacked = [
            some_of(indices, labels, ATTACKED_SAMPLES // folds, seed) for indices in held_out
        ]
        self._clean = [
            np.union1d(some_of(indices, labels, CLEAN_SAMPLES // folds, seed), attacked)
            for indices, attacked in zip(held_out, self._attacked, strict=True)
        ]
        neutral = np.tile(neutral_gates(work.sites), (folds, 1))
        source = work.do(self._scoring(neutral))
        self._cost = CleanCost(_logits(source), np.concatenate([each["y"] for each in source]))

    def evaluate(self, theta: Doubles) -> GateMetrics:
        """Count right answers with the gates of each fold.

        Parameters
        ----------
        theta
            The parameters, [folds, count]; or [1 + folds, count], those of all samples first.
        """
        folds = len(self._attacked)
        gates = self._parameters.values(theta[-folds:])
        made = self._work.do([*self._withstanding(gates), *self._scoring(gates)])
        withstood, answered = made[:folds], made[folds:]
        clean = robust = single = 0
        for fold, (answers, attacked) in enumerate(zip(answered, withstood, strict=True)):
            right = is_right(answers["logits"], answers["y"])
            there = np.searchsorted(self._clean[fold], self._attacked[fold])
            clean += int(right.sum())
            robust += int((right[there] & attacked["robust"]).sum())
            single += int(attacked["single"].sum())
        lost, doubt = self._expected(answered)
        return GateMetrics(
            count=sum(map(len, self._attacked)),
            clean_count=sum(map(len, self._clean)),
            clean=clean,
            robust=robust,
            single=single,
            lost=lost,
            doubt=doubt,
        )

    def drop(self, theta: Doubles) -> float:
        """Return what :attr:`GateMetrics.drop` would be, without an attack."""
        gates = self._parameters.values(theta[-len(self._attacked) :])
        lost, doubt = self._expected(self._work.do(self._scoring(gates)))
        return (lost + doubt) / sum(map(len, self._clean))

    def _scoring(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.scoring(*each) for each in zip(gates, self._clean, strict=True)]

    def _withstanding(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.withstanding(*each) for each in zip(gates, self._attacked, strict=True)]

    def _expected(self, answered: Sequence[Arrays]) -> tuple[float, float]:
        """Return how many right answers are expected to be lost, and how many more to allow for."""
        logits = _logits(answered)
        cost = self._cost.of(logits, self._cost.weights(logits))
        # Gates of all samples cost no more than those of a part of them.
        doubt = 0.0 if len(answered) > 1 else float(np.sqrt(np.square(cost).sum()))
        return float(cost.sum()), doubt


def _logits(answered: Sequence[Arrays]) -> Array:
    return np.concatenate([each["logits"] for each in answered])
