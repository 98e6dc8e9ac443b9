"""Try gates on samples that they were not tuned on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cloakify.attacks import Pgd, ThreatModel
from cloakify.data import Dataset
from cloakify.data.splits import some_of
from cloakify.masking.clean_cost import CleanCost
from cloakify.masking.gated import GatedModel
from cloakify.masking.tuning import TuningPlan, attack_batch
from cloakify.masking.tuning_state import GateMetrics
from cloakify.numeric.arrays import Array, Doubles, Labels, floats
from cloakify.numeric.judging import is_right

# Samples that are attacked; clean ones tell of a point of accuracy only by their number, and cost
# next to nothing.
ATTACKED_SAMPLES = 500
CLEAN_SAMPLES = 4000
PGD_STEPS = 10


class GateEvaluator:
    """Tries gates on samples: clean, under PGD, and under the tuning's own attack.

    Parameters
    ----------
    model
        The gated classifier; every evaluation sets its gates.
    dataset, held_out
        The samples, and which of them the gates of each fold are tried on.
    threat
        What the attacker may do.
    plan
        How the gates are tuned.
    """

    def __init__(
        self,
        model: GatedModel,
        dataset: Dataset,
        held_out: Sequence[Labels],
        threat: ThreatModel,
        plan: TuningPlan,
    ) -> None:
        self._folds = [
            _Fold(model, dataset, indices, threat, plan, len(held_out)) for indices in held_out
        ]

    def evaluate(self, gates: Doubles) -> GateMetrics:
        """Count right answers with the gates of each fold, [folds, count]."""
        found = [fold.evaluate(each) for fold, each in zip(self._folds, gates, strict=True)]
        count, clean_count, clean, robust, single = np.sum([one for one, _ in found], axis=0)
        costs = [each for _, each in found]
        return GateMetrics(
            count=int(count),
            clean_count=int(clean_count),
            clean=int(clean),
            robust=int(robust),
            single=int(single),
            lost=float(sum(map(np.sum, costs))),
            doubt=_doubt(costs),
        )

    def drop(self, gates: Doubles) -> float:
        """Return what :attr:`GateMetrics.drop` would be, without an attack."""
        costs = [fold.costs(each) for fold, each in zip(self._folds, gates, strict=True)]
        lost, doubt = float(sum(map(np.sum, costs))), _doubt(costs)
        return (lost + doubt) / sum(map(len, costs))


def _doubt(costs: Sequence[Doubles]) -> float:
    """Return the standard error of the cost of one fold's gates.

    The mean of several folds' gates, which none of them was tried with, costs less than each: about
    as much less as their standard error.
    """
    return float(np.sqrt(np.square(costs[0]).sum())) if len(costs) == 1 else 0.0


class _Fold:
    """Tries the gates of one fold."""

    def __init__(
        self,
        model: GatedModel,
        dataset: Dataset,
        indices: Labels,
        threat: ThreatModel,
        plan: TuningPlan,
        folds: int,
    ) -> None:
        self._model, self._dataset, self._threat, self._plan = model, dataset, threat, plan
        labels, seed = dataset.labels, plan.seed
        self._attacked = some_of(indices, labels, ATTACKED_SAMPLES // folds, seed)
        clean = some_of(indices, labels, CLEAN_SAMPLES // folds, seed)
        self._clean = np.union1d(clean, self._attacked)
        source, answers = self._logits(model.neutral)
        self._cost = CleanCost(source, answers)

    def costs(self, gates: Doubles) -> Doubles:
        """Return what gates cost on each clean sample."""
        return self._cost.of(self._logits(gates)[0])

    def evaluate(self, gates: Doubles) -> tuple[tuple[int, ...], Doubles]:
        """Return the counts that `GateMetrics` begins with, and what gates cost on each sample."""
        model, plan, dataset = self._model, self._plan, self._dataset
        logits, answers = self._logits(gates)
        right, costs = is_right(logits, answers), self._cost.of(logits)
        target, pgd = model.target, Pgd(steps=PGD_STEPS, seed=plan.seed)
        robust = single = 0
        for batch in dataset.batches(self._attacked, target.span):
            x = floats(batch.x)
            # A number that no step of the tuning has.
            once = attack_batch(model, batch, self._threat, plan, 1, plan.steps)
            hard = pgd.run(target, x, batch.y, batch.index, self._threat)
            single += int(target.correct(once, batch.y).sum())
            clean = right[np.searchsorted(self._clean, batch.index)]
            robust += int((clean & target.correct(hard, batch.y)).sum())
        counts = len(self._attacked), len(self._clean), int(right.sum()), robust, single
        return counts, costs

    def _logits(self, gates: Doubles) -> tuple[Array, Labels]:
        """Set gates; return logits and labels of the clean samples."""
        self._model.set(gates)
        target = self._model.target
        batches = self._dataset.batches(self._clean, target.span)
        parts = [(target.logits(floats(batch.x)), batch.y) for batch in batches]
        logits, labels = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(labels)
