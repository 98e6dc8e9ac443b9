"""The worst case counts everything that was tried, each where it was tried."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import Apgd, Attack, FabT, Fgsm, Square
from cloakify.evaluation.attack_results import AttackPlan, AttackResults

BUDGETS = (0.1, 0.2, 0.3)
N, ATTACKS, MODELS = 40, 2, 2
SHAPES = {
    "clean": (N,),
    "noise": (3, N),
    "first_attack": (3, N),
    "surviving": (3, ATTACKS, N),
    "doubled": (3, N),
    "doubled_on": (N,),
    "transferred": (MODELS, 3, N),
    "on_copies": (N,),
    "in_ball": (3, N),
    "in_box": (N,),
    "checked": (N,),
    "checked_on": (N,),
    "extended": (1, N),
    "searched": (N,),
}


def results_of(rng: np.random.Generator, right: float) -> AttackResults:
    """Draw results in which each trial leaves a share of the samples."""
    flags = {name: rng.random(shape) < right for name, shape in SHAPES.items()}
    distance = rng.choice([0.0, 0.1, 0.15, 0.25, 0.3, 0.5, np.inf], N)
    return AttackResults(budgets=BUDGETS, distance=distance, **flags)


def withstands(results: AttackResults, sample: int, place: int) -> bool:
    """Say of one sample at one budget what the docstrings say."""
    for smaller in range(place + 1):
        tried = [
            results.clean[sample],
            results.noise[smaller, sample],
            results.first_attack[smaller, sample],
            *results.surviving[smaller, :, sample],
            results.doubled[smaller, sample],
            *results.transferred[:, smaller, sample],
            results.distance[sample] > BUDGETS[smaller],
        ]
        if results.in_ball[smaller, sample] and results.in_box[sample]:
            tried.append(results.on_copies[sample])
        if smaller == len(BUDGETS) - 1:
            tried.append(results.checked[sample])
        if not all(tried):
            return False
    return True


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.8, 0.9, 0.97, 1.0]))
def test_the_worst_case_is_that_of_every_sample_alone(seed: int, right: float) -> None:
    results = results_of(np.random.default_rng(seed), right)
    expected = [[withstands(results, i, place) for i in range(N)] for place in range(3)]
    np.testing.assert_array_equal(results.worst_case, expected)


@pytest.mark.parametrize(
    ("name", "where", "from_budget"),
    [
        ("clean", (), 0),
        ("noise", (1,), 1),
        ("first_attack", (1,), 1),
        ("surviving", (1, 0), 1),
        ("surviving", (1, 1), 1),
        ("doubled", (2,), 2),
        ("transferred", (0, 1), 1),
        ("transferred", (1, 0), 0),
        ("on_copies", (), 0),
        ("checked", (), 2),
    ],
)
def test_one_success_counts_at_its_budget_and_at_larger_ones(
    name: str, where: tuple[int, ...], from_budget: int
) -> None:
    nothing = {field: np.ones(shape, np.bool_) for field, shape in SHAPES.items()}
    results = AttackResults(budgets=BUDGETS, distance=np.full(N, np.inf), **nothing)
    assert results.worst_case.all()
    flags = getattr(results, name).copy()
    flags[(*where, 7)] = False
    fallen = np.argwhere(~replace(results, **{name: flags}).worst_case)
    np.testing.assert_array_equal(fallen, [[place, 7] for place in range(from_budget, 3)])


@given(st.integers(0, 2**32 - 1))
def test_parts_are_put_where_their_samples_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole, empty = results_of(rng, 0.5), results_of(rng, 0.5)
    order = rng.permutation(N)
    for index in np.array_split(order, 3):
        arrays = {
            field.name: getattr(whole, field.name)[..., index]
            for field in fields(whole)
            if field.name != "budgets"
        }
        empty.put(index, AttackResults(budgets=BUDGETS, **arrays))
    for field in fields(whole):
        np.testing.assert_array_equal(getattr(empty, field.name), getattr(whole, field.name))


@given(st.lists(st.sampled_from([Apgd(), Fgsm(), Square(queries=5)]), min_size=1, max_size=4))
def test_a_plan_knows_what_follows_the_gradient_and_nothing_is_fooled_before_it_is_run(
    attacks: list[Attack],
) -> None:
    plan = AttackPlan(
        budgets=BUDGETS,
        extended_budgets=(0.5, 0.7),
        attacks=tuple(attacks),
        doubled=None,
        doubled_stride=1,
        transfer_attack=None,
        onward=None,
        gradient_free_check=None,
        check_stride=1,
        extending=attacks[0],
        nearest_search=FabT(),
        search_stride=1,
        given_copies=None,
        seed=0,
    )
    assert plan.white_box == tuple(each for each in attacks if not isinstance(each, Square))
    results = AttackResults.of(plan, 3, N)
    shapes = {**SHAPES, "surviving": (3, len(attacks), N), "transferred": (3, 3, N)}
    shapes |= {"extended": (2, N), "distance": (N,)}
    for name, shape in shapes.items():
        assert getattr(results, name).shape == shape
    assert results.worst_case.all() and results.budgets == BUDGETS
    # Nothing was doubled, checked or searched either.
    assert not (results.doubled_on | results.checked_on | results.searched).any()
