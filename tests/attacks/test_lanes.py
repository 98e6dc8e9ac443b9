"""Lanes: when results are fetched, and that what is fetched does not depend on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cloakify.attacks import Apgd, Pgd, Target
from cloakify.attacks import lanes as module
from cloakify.attacks.lanes import Iteration, Runner
from tests.support.classifiers import mlp_classifier, target_of, threat_of

BATCH = 8


@pytest.fixture
def target() -> Target:
    return target_of(mlp_classifier(2, features=10, classes=4), BATCH, threads=1)


@pytest.mark.parametrize("patience", [0.0, 0.3, 0.9])
def test_lanes_rest_as_long_as_there_is_patience(
    target: Target, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """They are emptied once more than that share of the batch stands finished, or all do."""
    emptied: list[tuple[int, int, int]] = []

    class Watched(module._Lanes):
        def __init__(self, iteration: Iteration, runner: Runner) -> None:
            super().__init__(replace(iteration, patience=patience), runner)

        def harvest(self) -> list[module.Job]:
            emptied.append((int(self.done.sum()), len(self.jobs), self.size))
            return super().harvest()

    x = np.random.default_rng(0).random((40, 10), np.float32)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, "linf", 0.15)
    attack = Pgd(steps=6, step_size=0.03, restarts=2)
    usual = attack.run(target, x, y, np.arange(40), threat)
    monkeypatch.setattr(module, "_Lanes", Watched)
    watched = attack.run(target, x, y, np.arange(40), threat)
    np.testing.assert_allclose(watched, usual, atol=1e-6)
    assert emptied
    for done, taken, size in emptied:
        assert done == taken or done > patience * size
    # Not later than must be: with none a single one is fetched, with much whole batches are.
    counts = [done for done, *_ in emptied]
    assert min(counts) == 1 if patience == 0 else max(counts) > patience * BATCH


@pytest.mark.parametrize("onward", [0, 2, 5])
def test_samples_are_driven_on_so_many_steps(
    target: Target, monkeypatch: pytest.MonkeyPatch, onward: int
) -> None:
    """From the first iterate that fools; the others go all the way, as they would without."""
    spent: list[tuple[int, int, bool]] = []

    class Watched(module._Lanes):
        def harvest(self) -> list[module.Job]:
            over = np.flatnonzero(self.done)
            spent.extend(zip(self.age[over], self.since[over], self.fooled[over], strict=True))
            return super().harvest()

    x = np.random.default_rng(0).random((40, 10), np.float32)
    y, index = target.logits(x).argmax(axis=1), np.arange(40)
    threat = threat_of(target, "linf", 0.1)
    attack = Apgd(steps=12, stop_early=False)
    whole, fooled = attack.explore(target, x, y, index, threat)
    monkeypatch.setattr(module, "_Lanes", Watched)
    driven, also = attack.explore(target, x, y, index, threat, onward)
    np.testing.assert_array_equal(also, fooled)
    assert 0 < fooled.sum() < len(x)
    np.testing.assert_array_equal(driven[~fooled], whole[~fooled])
    assert not target.correct(driven[fooled], y[fooled]).any()
    for age, since, lost in spent:
        assert age == 13 or (lost and since == onward)
    assert any(age < 13 for age, *_ in spent)
