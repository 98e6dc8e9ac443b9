"""What is counted of gates on samples that they were not tuned on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.hardening.gate_evaluator import GateEvaluator
from cloakify.masking.clean_cost import CleanCost
from cloakify.masking.optimiser import Parameters
from tests.hardening.gates import Gates
from tests.masking.test_tuning import Bench


@pytest.mark.parametrize("folds", [1, 3])
@pytest.mark.parametrize("batch_size", [5, 32])
def test_each_fold_is_tried_on_its_own_samples(tmp_path: Path, folds: int, batch_size: int) -> None:
    bench, gates = (
        Bench(tmp_path, folds=folds),
        Gates(tmp_path, batch_size=batch_size, shifts=False),
    )
    held_out = bench.folds if folds == 1 else bench.folds[:0:-1]
    theta = np.random.default_rng(0).normal(scale=0.3, size=(folds, bench.model.count))
    parameters = Parameters("positive", np.zeros(bench.model.count))
    evaluator = GateEvaluator(gates.work(), parameters, gates.experiment.labels, held_out)
    metrics = evaluator.evaluate(theta)
    answered: list[tuple[np.ndarray, ...]] = []
    clean = robust = 0
    for own, indices in zip(np.exp(theta[-len(held_out) :]), held_out, strict=True):
        (batch,) = bench.dataset.batches(indices, len(indices))
        bench.model.set(np.ones_like(own))
        source = bench.model.target.logits(batch.x)
        bench.model.set(own)
        logits = bench.model.target.logits(batch.x)
        answered.append((source, batch.y, logits))
        clean += int((logits.argmax(axis=1) == batch.y).sum())
        moved = bench.model.target.step(batch.x, batch.y, batch.x, bench.threat, bench.threat.eps)
        robust += int(bench.model.target.correct(moved.x, batch.y).sum())
    assert metrics.count == metrics.clean_count == sum(map(len, held_out))
    assert metrics.clean == clean
    # The model is monotone in every input: nothing beats one step of the whole budget.
    assert metrics.robust == robust
    source, y, others = (np.concatenate(each) for each in zip(*answered, strict=True))
    cost = CleanCost(source, y)
    costs = cost.of(others, cost.weights(others))
    assert metrics.lost == pytest.approx(costs.sum())
    spread = np.sqrt(np.square(costs).sum())
    assert metrics.doubt == pytest.approx(spread if folds == 1 else 0)
    assert metrics.drop > 0
    assert evaluator.drop(theta) == pytest.approx(metrics.drop)
