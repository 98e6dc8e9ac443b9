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
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import Apgd, ApgdT, Attack, FabT, Square, Target
from cloakify.attacks.threat import ThreatModel
from cloakify.errors import NoGradientError
from cloakify.evaluation.attack_models import BYTES, MOST, attack_models, attacked_together, craft
from cloakify.evaluation.attack_results import AttackPlan, AttackResults, work_of
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


@given(
    st.integers(1, 9000),
    st.integers(1, 400),
    st.integers(1, 600),
    st.integers(1, 6),
    st.sampled_from([1, 5000, 10**7]),
)
def test_every_sample_is_dealt_once_and_the_first_part_is_from_all_over(
    count: int, batch_size: int, span: int, parts: int, values: int
) -> None:
    first, *rest = attacked_together(count, (values,), batch_size, span, parts)
    dealt = np.sort(np.concatenate([first, *rest]))
    np.testing.assert_array_equal(dealt, np.arange(count))
    # A batch, as full as it gets where samples are left out evenly.
    assert len(first) <= batch_size and set(np.diff(first)) <= {-(-count // batch_size)}
    assert np.ptp(first) >= count * (1 - 1 / len(first)) - 1
    most = max(map(len, rest), default=0)
    if most > span:
        assert most <= MOST and 4 * most * values <= BYTES and parts * (most - 1) < count
    # No more parts than that takes.
    if rest and count <= MOST and 4 * count * values <= BYTES:
        assert len(rest) <= parts


class Stuck(Push):
    """Follows a gradient that does not exist."""

    def run(self, target: Any, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        raise NoGradientError("none")

    def explore(self, *_: Any) -> Any:
        raise NoGradientError("none")


class Nearest(FabT):
    """Moves the first half of all samples over the border, and no other."""

    def nearest(self, target: Any, x: Array, y: Labels, threat: ThreatModel) -> Array:
        pushed = np.where(y < np.median(PUSHES), y / 1000 / target.frailty + 1e-3, 0)
        return x + pushed[:, None].astype(np.float32)


class NoSlope(FabT):
    """Follows a gradient that does not exist."""

    def nearest(self, *_: Any) -> Array:
        raise NoGradientError("none")


@given(st.floats(0.01, 2), st.integers(1, 20))
def test_without_a_gradient_an_attack_stays_on_the_border_where_it_starts(
    eps: float, count: int
) -> None:
    one = np.ones((1, 1), np.float32)
    ball = ThreatModel("linf", eps, one, -np.inf * one, np.inf * one)
    samples = Pushed().samples(np.arange(count))
    target: Any = FrailModel(1.0)
    x = craft(Stuck("stuck", 1), target, samples, ball)
    np.testing.assert_allclose(np.abs(x - samples.x), eps, rtol=1e-5)


def test_attacks_without_a_gradient_count_as_the_start_that_they_stay_at() -> None:
    plan = plan_of(
        attacks=(Stuck("first", 3),),
        doubled=None,
        transfer_attack=Stuck("first", 3),
        gradient_free_check=None,
        extending=Stuck("first", 3),
        nearest_search=NoSlope(),
    )
    # So frail that a start at the border of the larger ball fools some, and of the smaller none.
    frailties = (2.0, 3.0)
    for mine, frailty in zip(run(plan, frailties), frailties, strict=True):
        least = PUSHES.min() / 1000 / frailty
        assert BUDGETS[0] < least and least < BUDGETS[1]
        assert mine.surviving[0].all() and mine.transferred[:, 0].all()
        reach = stands(BUDGETS[1], frailty)
        for left in (mine.surviving[1, 0], *mine.transferred[:, 1]):
            # Some starts lie on the other side, where nothing is to be had.
            assert left[reach].all() and (reach.all() or not left.all())
        assert np.isinf(mine.distance).all() and mine.searched.all()


@pytest.mark.parametrize("stride", [1, 3])
def test_distances_are_those_of_the_points_found_where_one_is_looked_for(stride: int) -> None:
    (mine,) = run(plan_of(nearest_search=Nearest(), search_stride=stride), (1.5,))
    searched = np.arange(N) % stride == 0
    np.testing.assert_array_equal(mine.searched, searched)
    found = searched & (np.median(PUSHES) > PUSHES)
    np.testing.assert_allclose(mine.distance[found], PUSHES[found] / 1500 + 1e-3, rtol=1e-4)
    assert np.isinf(mine.distance[~found]).all() and found.any()


@pytest.mark.parametrize(
    "attack",
    [
        ApgdT(steps=3, num_targets=2, by_slope=True),
        FabT(steps=4, num_targets=2),
        Square(queries=10),
        Square(queries=12),
    ],
)
def test_work_is_what_the_model_is_asked(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that nothing fools: gradients, or passes three at a time."""
    bias = np.zeros(9, np.float32)
    bias[0] = 1e3
    weight = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    target, many = target_of(linear_classifier(weight, bias)), 5
    asked = {"evaluate": 0, "logits": 0}
    for name in asked:
        original = getattr(Target, name)

        def counted(
            self: Any, x: Array, *rest: Any, of: Any = (name, original), **more: Any
        ) -> Any:
            asked[of[0]] += len(x)
            return of[1](self, x, *rest, **more)

        monkeypatch.setattr(Target, name, counted)
    x = np.zeros((many, 4), np.float32)
    y = np.zeros(many, np.int64)
    attack.run(target, x, y, np.arange(many), threat_of(target, "linf", 0.1))
    work = work_of(attack)
    if isinstance(attack, Square):
        assert 3 * work - 3 < asked["logits"] / many <= 3 * work
    elif isinstance(attack, ApgdT):
        # Its steps are graphs of their own.
        assert work - attack.num_targets * attack.steps == asked["evaluate"] / many
    else:
        assert work == asked["evaluate"] / many


def test_what_is_not_run_is_no_work() -> None:
    assert work_of(None) == 0 and work_of(Apgd(steps=7)) == 7
    assert work_of(ApgdT(steps=7, num_targets=3)) == 21
