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
from cloakify.masking.tuning_state import GateMetrics
from cloakify.numeric.arrays import Doubles, Indices, Labels
from cloakify.numeric.judging import is_right

# Samples that are attacked; clean ones tell of a point of accuracy only by their number, and cost
# next to nothing.
ATTACKED_SAMPLES = 500
CLEAN_SAMPLES = 4000


class GateEvaluator:
    """Tries gates on samples: clean, under PGD, and under the tuning's own attack.

    Parameters
    ----------
    work
        Has it done.
    labels
        Of all samples.
    held_out
        Which of them the gates of each fold are tried on.
    """

    def __init__(self, work: GateWork, labels: Labels, held_out: Sequence[Indices]) -> None:
        self._work = work
        seed, folds = work.plan.seed, len(held_out)
        self._attacked = [
            some_of(indices, labels, ATTACKED_SAMPLES // folds, seed) for indices in held_out
        ]
        self._clean = [
            np.union1d(some_of(indices, labels, CLEAN_SAMPLES // folds, seed), attacked)
            for indices, attacked in zip(held_out, self._attacked, strict=True)
        ]
        neutral = np.tile(neutral_gates(work.sites), (folds, 1))
        self._costs = [
            CleanCost(source["logits"], source["y"]) for source in work.do(self._answering(neutral))
        ]

    def evaluate(self, gates: Doubles) -> GateMetrics:
        """Count right answers with the gates of each fold, [folds, count]."""
        folds = len(gates)
        made = self._work.do([*self._answering(gates), *self._withstanding(gates)])
        costs = self._costs_of(made[:folds])
        clean = robust = single = 0
        for fold, (answers, attacked) in enumerate(zip(made[:folds], made[folds:], strict=True)):
            right = is_right(answers["logits"], answers["y"])
            there = np.searchsorted(self._clean[fold], self._attacked[fold])
            clean += int(right.sum())
            robust += int((right[there] & attacked["robust"]).sum())
            single += int(attacked["single"].sum())
        return GateMetrics(
            count=sum(map(len, self._attacked)),
            clean_count=sum(map(len, self._clean)),
            clean=clean,
            robust=robust,
            single=single,
            lost=float(sum(map(np.sum, costs))),
            doubt=_doubt(costs),
        )

    def drop(self, gates: Doubles) -> float:
        """Return what :attr:`GateMetrics.drop` would be, without an attack."""
        costs = self._costs_of(self._work.do(self._answering(gates)))
        lost, doubt = float(sum(map(np.sum, costs))), _doubt(costs)
        return (lost + doubt) / sum(map(len, costs))

    def _answering(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.answering(*each) for each in zip(gates, self._clean, strict=True)]

    def _withstanding(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.withstanding(*each) for each in zip(gates, self._attacked, strict=True)]

    def _costs_of(self, answers: Sequence[Arrays]) -> list[Doubles]:
        """Return what gates cost on each clean sample, by the answers of each fold."""
        pairs = zip(self._costs, answers, strict=True)
        return [cost.of(answered["logits"]) for cost, answered in pairs]


def _doubt(costs: Sequence[Doubles]) -> float:
    """Return the standard error of the cost of one fold's gates.

    The mean of several folds' gates, which none of them was tried with, costs less than each: about
    as much less as their standard error.
    """
    return float(np.sqrt(np.square(costs[0]).sum())) if len(costs) == 1 else 0.0
