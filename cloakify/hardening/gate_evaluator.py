"""Try gates on samples of a split."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import Pgd, ThreatModel
from cloakify.data import Dataset
from cloakify.data.splits import some_of
from cloakify.masking.gated import GatedModel
from cloakify.masking.tuning import GateMetrics, TuningPlan, attack_batch
from cloakify.numeric.arrays import Doubles, Labels, floats

# Samples that are attacked; clean ones tell of a point of accuracy only by their number, and cost
# next to nothing.
ATTACKED_SAMPLES = 500
CLEAN_SAMPLES = 4000
PGD_STEPS = 10


class GateEvaluator:
    """Tries gates on samples of one split: clean, under PGD, and under the tuning's own attack.

    Parameters
    ----------
    model
        The gated classifier; every evaluation sets its gates.
    dataset, indices
        The split.
    threat
        What the attacker may do.
    plan
        How the gates are tuned.
    """

    def __init__(
        self,
        model: GatedModel,
        dataset: Dataset,
        indices: Labels,
        threat: ThreatModel,
        plan: TuningPlan,
    ) -> None:
        self._model, self._dataset, self._threat, self._plan = model, dataset, threat, plan
        labels, seed = dataset.labels, plan.seed
        self._attacked = some_of(indices, labels, ATTACKED_SAMPLES, seed)
        self._clean = np.union1d(some_of(indices, labels, CLEAN_SAMPLES, seed), self._attacked)

    def evaluate(self, gates: Doubles) -> GateMetrics:
        """Count right answers."""
        source = self._source_right
        model, plan, dataset = self._model, self._plan, self._dataset
        right = self._right(gates)
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
        return GateMetrics(
            count=len(self._attacked),
            clean_count=len(self._clean),
            clean=int(right.sum()),
            robust=robust,
            single=single,
            changed=int((right != source).sum()),
        )

    @cached_property
    def _source_right(self) -> NDArray[np.bool_]:
        return self._right(self._model.neutral)

    def _right(self, gates: Doubles) -> NDArray[np.bool_]:
        """Set gates; tell of each clean sample whether it is answered rightly."""
        self._model.set(gates)
        target = self._model.target
        answers = [
            target.correct(floats(batch.x), batch.y)
            for batch in self._dataset.batches(self._clean, target.span)
        ]
        return np.concatenate(answers)
