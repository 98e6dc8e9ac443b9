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

# How much of what is expected is what the folds' gates cost on samples that are new to them; the
# rest is what the gates of all samples cost on the same. To learn from twice as many halves the
# difference, which falls as 1/n where gates are few and samples many; and a source that was trained
# on the samples is surer of them than of others, by how much can't be known.
UNSEEN = 3 / 4


class GateEvaluator:
    """Tries gates on samples: clean, under PGD, and under the tuning's own attack.

    What gates that learned from all samples cost of clean accuracy can't be tried on any of these.
    Those of each fold cost more, on the samples that they have not seen, as they learned from
    fewer; those of all samples cost less on samples that they have seen. What is expected lies
    between, at :data:`UNSEEN`.

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
        self._costs = [
            CleanCost(source["logits"], source["y"]) for source in work.do(self._scoring(neutral))
        ]

    def evaluate(self, theta: Doubles) -> GateMetrics:
        """Count right answers with the gates of each fold.

        Parameters
        ----------
        theta
            The parameters, [folds, count]; or [1 + folds, count], those of all samples first.
        """
        folds = len(self._attacked)
        gates = self._parameters.values(theta[-folds:])
        jobs = [*self._withstanding(gates), *self._scoring(gates), *self._by_whole(theta)]
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
        gates = self._parameters.values(theta[-len(self._attacked) :])
        lost, doubt = self._expected(self._work.do([*self._scoring(gates), *self._by_whole(theta)]))
        return (lost + doubt) / sum(map(len, self._clean))

    def _scoring(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.scoring(*each) for each in zip(gates, self._clean, strict=True)]

    def _by_whole(self, theta: Doubles) -> list[Job[Subject]]:
        """Return the jobs of answering the same samples with the gates of all samples, if any."""
        folds = len(self._attacked)
        if len(theta) == folds:
            return []
        return self._scoring(np.tile(self._parameters.values(theta[0]), (folds, 1)))

    def _withstanding(self, gates: Doubles) -> list[Job[Subject]]:
        return [self._work.withstanding(*each) for each in zip(gates, self._attacked, strict=True)]

    def _expected(self, answered: Sequence[Arrays]) -> tuple[float, float]:
        """Return how many right answers are expected to be lost, and how many more to allow for.

        By the answers of each fold's gates, and then of those of all samples, to the same samples.
        """
        folds = len(self._costs)
        unseen, seen = self._cost(answered[:folds]), self._cost(answered[folds:])
        error = float(np.sqrt(np.square(unseen).sum()))
        if not len(seen):
            return float(unseen.sum()), error
        # A whole standard error of few samples would leave a third of the budget unused.
        return float(UNSEEN * unseen.sum() + (1 - UNSEEN) * seen.sum()), error / 4

    def _cost(self, answered: Sequence[Arrays]) -> Doubles:
        """Return what answers to the folds' samples cost, sample by sample; none of no answers."""
        pairs = zip(self._costs, answered, strict=bool(answered))
        return np.concatenate([np.empty(0), *(cost.of(made["logits"]) for cost, made in pairs)])
