"""Every attack of a plan is run where it should be; its successes are counted by hand.

Models and attacks are made of one number each, so that who wins is known without running anything:
a sample's label is how far (in thousandths) it must be pushed before a model of frailty 1 errs, and
an attack of strength s pushes it by s·ε, as far again on a model of frailty 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from cloakify.attacks import Attack
from cloakify.attacks.threat import ThreatModel
from cloakify.evaluation.attack_models import attack_models, attacked_together
from cloakify.evaluation.attack_results import AttackPlan, AttackResults
from cloakify.evaluation.samples import Samples
from cloakify.numeric.arrays import Array, Flags, Labels
from tests.support.classifiers import linear_classifier, target_of, threat_of

BUDGETS, EXTENDED = (0.1, 0.2), (0.4, 0.8)
N = 97
# Beyond what noise within the budgets does, and spread over all that attacks do.
PUSHES = np.random.default_rng(0).integers(310, 6000, N)


@dataclass
class FrailModel:
    """Errs on a sample that is pushed as far as its label says."""

    frailty: float
    batch_size: int = 8
    span: int = 16

    def correct(self, x: Array, y: Labels) -> Flags:
        right: Flags = x[:, 0] * self.frailty * 1000 < y - 1e-3
        return right


class Push(Attack):
    """Pushes by so many budgets."""

    def __init__(self, name: str, strength: float, gradient: str = "white-box") -> None:
        self.name, self.strength, self.gradient = name, strength, gradient  # type: ignore[misc]
        self.seen: list[int] = []

    @property
    def steps(self) -> int:
        return 10

    def run(self, target: Any, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        self.seen += [int(i) for i in index]
        return x + np.float32(self.strength * threat.eps * target.frailty)


class Pushed:
    """A data set of samples that nothing has pushed, or copies pushed by a given length."""

    sample_shape = (1,)

    def __init__(self, pushed: float = 0.0) -> None:
        self.x = np.full((N, 1), pushed, np.float32)

    def __len__(self) -> int:
        return N

    def samples(self, rows: Labels) -> Samples:
        return Samples(self.x[rows], PUSHES[rows], rows)

    def load(self, index: Labels) -> Array:
        return self.x[index]


def plan_of(**changes: Any) -> AttackPlan:
    attacks = (Push("first", 3), Push("second", 5), Push("blind", 6, "gradient-free"))
    settings: dict[str, Any] = {
        "budgets": BUDGETS,
        "extended_budgets": EXTENDED,
        "attacks": attacks,
        "doubled": Push("first", 4),
        "doubled_stride": 1,
        "transfer_attack": Push("first", 3.5),
        "onward": None,
        "gradient_free_check": Push("check", 7, "gradient-free"),
        "check_stride": 1,
        "extending": Push("first", 3),
        "nearest_search": None,
        "search_stride": 1,
        "given_copies": None,
        "seed": 0,
    }
    return AttackPlan(**(settings | changes))


def run(plan: AttackPlan, frailties: Sequence[float] = (1.0, 1.5)) -> list[AttackResults]:
    wide = linear_classifier(np.ones((1, 2), np.float32), np.zeros(2, np.float32))
    threat = threat_of(target_of(wide), "linf", max(BUDGETS), box=None)
    models = [FrailModel(frailty) for frailty in frailties]
    every = [AttackResults.of(plan, len(models), N) for _ in models]
    data = Pushed()
    for index in attacked_together(N, data.sample_shape, 8, 16):
        parts = attack_models(models, plan, threat, data.samples(index), lambda amount: None)  # type: ignore[arg-type]
        for results, part in zip(every, parts, strict=True):
            results.put(index, part)
    return every


def stands(push: float, frailty: float) -> Flags:
    """Which samples a push leaves right; a model's own attack pushes by its frailty, too."""
    flags: Flags = push * frailty * 1000 < PUSHES - 1e-3
    return flags


@pytest.fixture(scope="module")
def results() -> list[AttackResults]:
    return run(plan_of())


@pytest.mark.parametrize(("number", "frailty"), [(0, 1.0), (1, 1.5)])
def test_each_attack_counts_where_it_is_run(
    results: list[AttackResults], number: int, frailty: float
) -> None:
    mine = results[number]
    assert mine.clean.all() and mine.noise.all() and not mine.searched.any()
    for place, eps in enumerate(BUDGETS):
        own = [stands(strength * eps * frailty, frailty) for strength in (3, 5, 6)]
        np.testing.assert_array_equal(mine.first_attack[place], own[0])
        for last in range(3):
            # What a smaller budget or an earlier attack fooled stays fooled.
            np.testing.assert_array_equal(
                mine.surviving[place, last], np.all(own[: last + 1], axis=0)
            )
        np.testing.assert_array_equal(mine.doubled[place], stands(4 * eps * frailty, frailty))
        for other, foreign in enumerate((1.0, 1.5)):
            np.testing.assert_array_equal(
                mine.transferred[other, place], stands(3.5 * eps * foreign, frailty)
            )
    check = stands(7 * BUDGETS[-1] * frailty, frailty)
    np.testing.assert_array_equal(mine.checked, check)
    # The test says nothing unless every attack finds what those before it left.
    assert check.sum() < mine.surviving[1, 2].sum() < mine.surviving[1, 1].sum() < N


def test_the_curve_goes_on_from_the_worst_case_by_the_first_attack(
    results: list[AttackResults],
) -> None:
    for mine, frailty in zip(results, (1.0, 1.5), strict=True):
        standing = mine.worst_case[-1]
        for place, eps in enumerate(EXTENDED):
            standing = standing & stands(3 * eps * frailty, frailty)
            np.testing.assert_array_equal(mine.extended[place], standing)


def test_no_attack_is_run_on_what_has_fallen() -> None:
    """Nor twice on a sample at one budget; the check and the curve come after the cascade."""
    plan = plan_of(budgets=BUDGETS[:1], extended_budgets=(), doubled=None, transfer_attack=None)
    (mine,) = run(plan, (2.0,))
    first, second, blind = plan.attacks
    check = plan.gradient_free_check
    assert isinstance(check, Push)
    for attack, before in (
        (first, mine.clean),
        (second, mine.surviving[0, 0]),
        (blind, mine.surviving[0, 1]),
        (check, mine.surviving[0, 2]),
    ):
        assert isinstance(attack, Push)
        assert sorted(attack.seen) == np.flatnonzero(before).tolist()


def test_given_copies_count_within_the_budget() -> None:
    (mine,) = run(plan_of(given_copies=Pushed(0.15), transfer_attack=None), (8.0,))
    np.testing.assert_array_equal(mine.on_copies, stands(0.15, 8.0))
    assert not mine.in_ball[0].any() and mine.in_ball[1].all() and mine.in_box.all()
    assert 0 < mine.on_copies.sum() < N
    assert not (mine.worst_case[1] & ~mine.on_copies).any()


def test_what_is_run_on_some_samples_says_nothing_of_the_others() -> None:
    plan = plan_of(doubled_stride=3, check_stride=2, extended_budgets=(), transfer_attack=None)
    (mine,) = run(plan, (1.5,))
    assert np.flatnonzero(mine.doubled_on).tolist() == list(range(0, N, 3))
    assert np.flatnonzero(mine.checked_on).tolist() == list(range(0, N, 2))
    for place, eps in enumerate(BUDGETS):
        stronger = stands(4 * eps * 1.5, 1.5) | ~mine.doubled_on
        np.testing.assert_array_equal(mine.doubled[place], mine.first_attack[place] & stronger)
    standing = mine.surviving[-1, -1]
    stronger = stands(7 * BUDGETS[-1] * 1.5, 1.5) | ~mine.checked_on
    np.testing.assert_array_equal(mine.checked, standing & stronger)
    assert 0 < mine.checked.sum() < standing.sum()


@pytest.mark.parametrize("strides", [{}, {"doubled_stride": 3, "check_stride": 5}])
def test_what_is_told_is_the_whole_work(strides: dict[str, int]) -> None:
    told: list[int] = []
    plan = plan_of(**strides)
    wide = linear_classifier(np.ones((1, 2), np.float32), np.zeros(2, np.float32))
    threat = threat_of(target_of(wide), "linf", max(BUDGETS), box=None)
    models: Any = [FrailModel(1.0), FrailModel(1.5)]
    for index in attacked_together(N, Pushed.sample_shape, 8, 16):
        told.clear()
        attack_models(models, plan, threat, Pushed().samples(index), told.append)
        assert min(told) >= 0 and sum(told) == 2 * plan.work(index)


def test_every_sample_is_dealt_once_and_the_first_part_is_from_all_over() -> None:
    for count, batch_size, span in ((1, 8, 16), (8, 8, 16), (97, 8, 16), (9000, 2, 16)):
        first, *rest = attacked_together(count, (5,), batch_size, span)
        dealt = np.sort(np.concatenate([first, *rest]))
        np.testing.assert_array_equal(dealt, np.arange(count))
        assert len(first) <= batch_size and np.ptp(first) >= count * (1 - 1 / len(first)) - 1
