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
from cloakify.numeric.arrays import Doubles, Indices, Labels
from cloakify.numeric.judging import is_right

# Samples that are attacked; clean ones tell of a point of accuracy only by their number, and cost
# next to nothing.
ATTACKED_SAMPLES = 500
CLEAN_SAMPLES = 4000


class GateEvaluator:
    """Tries gates on samples: clean, under PGD, and under the tuning's own attack.

    What the mean of several folds' gates costs of clean accuracy can't be tried on any sample that
    it has not learned something from. Each fold by itself costs more than the mean on the samples
    that it has not seen, and the mean costs less than that on those that one of its folds has;
    what is expected is half of the sum.

    Parameters
    ----------
    work
        Has it done.
    parameters
        What is tuned.
    labels
        Of all samples.
    held_out
        Which of them the gates of each fold are tried on.
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
        self._costs = [
            CleanCost(source["logits"], source["y"]) for source in work.do(self._answering(neutral))
        ]

    def evaluate(self, theta: Doubles) -> GateMetrics:
        """Count right answers with the gates of each fold, by their parameters [folds, count]."""
        gates, folds = self._parameters.values(theta), len(theta)
        jobs = [*self._withstanding(gates), *self._answering(gates), *self._by_mean(theta)]
        made = self._work.do(jobs)
        withstood, answered = made[:folds], made[folds:]
        clean = robust = single = 0
        for fold, (answers, attacked) in enumerate(zip(answered, withstood, strict=False)):
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
        gates = self._parameters.values(theta)
        lost, doubt = self._expected(
            self._work.do([*self._answering(gates), *self._by_mean(theta)])
        )
        return (lost + doubt) / sum(map(len, self._clean))

    def _answering(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.answering(*each) for each in zip(gates, self._clean, strict=True)]

    def _by_mean(self, theta: Doubles) -> list[Job[Subject]]:
        """Return the jobs of answering all samples with the mean of several folds' gates."""
        if len(theta) == 1:
            return []
        mean = self._parameters.values(theta.mean(axis=0))
        return self._answering(np.tile(mean, (len(theta), 1)))

    def _withstanding(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.withstanding(*each) for each in zip(gates, self._attacked, strict=True)]

    def _expected(self, answered: Sequence[Arrays]) -> tuple[float, float]:
        """Return how many right answers are expected to be lost, and the error of one fold's.

        By the answers of each fold's gates, and then of several folds' mean, to the same samples.
        """
        ways = [
            [cost.of(made["logits"]) for cost, made in zip(self._costs, part, strict=True)]
            for part in (answered[: len(self._costs)], answered[len(self._costs) :])
            if part
        ]
        lost = float(np.mean([sum(map(np.sum, costs)) for costs in ways]))
        spread = float(np.sqrt(np.square(ways[0][0]).sum())) if len(ways) == 1 else 0.0
        return lost, spread
