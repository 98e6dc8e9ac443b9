"""What attacks on a model raise a warning, sign by sign and budget by budget, by plain counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from cloakify.evaluation.attack_results import AttackResults
from cloakify.evaluation.figures import Distance
from cloakify.evaluation.planted_samples import PlantedTest
from cloakify.evaluation.warnings import (
    CALIBRATION_DATA,
    WarningCode,
    attack_warnings,
    blocked_gradients,
    distance_is_budget,
    near_copies_reported,
    no_white_box,
    not_monotone,
    planted_missed,
    unbounded_fails,
    zero_gradients,
)

BUDGETS, N, MODELS = (0.1, 0.2), 60, 3
NAMES = ("first", "second", "blind")


def drawn(rng: np.random.Generator, some: bool) -> AttackResults:
    """Draw results, each trial with a share of its own that withstands it."""

    def flags(*shape: int) -> np.ndarray:
        shares = rng.choice([0.5, 0.9, 0.95, 1.0], (*shape, 1))
        return rng.random((*shape, N)) < shares

    return AttackResults(
        budgets=BUDGETS,
        clean=flags(),
        noise=flags(2),
        first_attack=flags(2),
        surviving=np.logical_and.accumulate(flags(2, len(NAMES)), axis=1),
        doubled=flags(2),
        doubled_on=np.arange(N) % 3 == 0 if some else np.ones(N, np.bool_),
        transferred=flags(MODELS, 2),
        on_copies=flags(),
        in_ball=flags(2),
        in_box=flags(),
        checked=flags(),
        checked_on=np.arange(N) % 2 == 0 if some else np.ones(N, np.bool_),
        extended=flags(1),
        searched=flags(),
        distance=np.full(N, np.inf),
    )


def beaten(before: np.ndarray, after: np.ndarray) -> list[float]:
    """The share that is lost, where that is four samples or more; of so few, all four count."""
    lost = sum(bool(b) and not a for b, a in zip(before, after, strict=True))
    return [lost / len(before)] if lost >= 4 else []


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, MODELS - 1),
    st.integers(0, len(NAMES)),
    st.sampled_from([None, "square"]),
    st.booleans(),
)
def test_each_sign_is_told_at_the_budget_where_it_is_clearest(
    seed: int, number: int, white_box: int, check: str | None, some: bool
) -> None:
    results = drawn(np.random.default_rng(seed), some)
    signs: dict[WarningCode, list[float]] = {
        WarningCode.TRANSFER: [],
        WarningCode.NOT_CONVERGED: [],
        WarningCode.GRADIENT_FREE: [],
    }
    twice = np.flatnonzero(results.doubled_on)
    for place in range(len(BUDGETS)):
        left = results.surviving[place, -1]
        others = [results.transferred[i, place] for i in range(MODELS) if i != number]
        signs[WarningCode.TRANSFER] += beaten(left, np.all(others, axis=0))
        signs[WarningCode.NOT_CONVERGED] += beaten(
            results.first_attack[place][twice], results.doubled[place][twice]
        )
        if 0 < white_box < len(NAMES):
            by_slope = results.surviving[place, white_box - 1]
            signs[WarningCode.GRADIENT_FREE] += beaten(by_slope, left)
    if check is not None and white_box in (0, len(NAMES)):
        on = np.flatnonzero(results.checked_on)
        signs[WarningCode.GRADIENT_FREE] += beaten(
            results.surviving[-1, -1][on], results.checked[on]
        )
    expected = {code: max(shares) for code, shares in signs.items() if shares}
    found = {
        warning.code: warning
        for warning in attack_warnings(results, number, NAMES, white_box, check)
        if warning.code is not WarningCode.NOT_MONOTONE
    }
    assert (found.pop(WarningCode.NO_WHITE_BOX, None) is not None) == (white_box == 0)
    assert {code: warning.value for code, warning in found.items()} == pytest.approx(expected)
    for code, warning in found.items():
        assert warning.message.startswith(f"{100 * warning.value:.1f} % of the samples ")
        if code is WarningCode.NOT_CONVERGED:
            assert "withstand first and" in warning.message
        if code is WarningCode.GRADIENT_FREE:
            by = NAMES[white_box] if 0 < white_box < len(NAMES) else check
            assert f"fall to {by}," in warning.message


def test_where_nothing_was_doubled_nothing_is_said_of_it() -> None:
    results = drawn(np.random.default_rng(0), some=False)
    results.first_attack[:], results.doubled[:], results.doubled_on[:] = True, False, False
    codes = {warning.code for warning in attack_warnings(results, 0, NAMES, 2, None)}
    assert WarningCode.NOT_CONVERGED not in codes


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=4),
    st.sampled_from([24, 2000, 4000]),
)
def test_a_rise_of_the_curve_is_one_where_the_exact_test_says_so(
    steps: list[tuple[int, int]], n: int
) -> None:
    """Of each step so many samples are won and lost, all others stay; scipy has the same test."""
    curve = [np.arange(n) % 2 == 0]
    for won, lost in steps:
        after = curve[-1].copy()
        right, wrong = np.flatnonzero(curve[-1]), np.flatnonzero(~curve[-1])
        after[right[:lost]], after[wrong[:won]] = False, True
        curve.append(after)
    rises = [0.0]
    for before, after in pairwise(curve):
        won, lost = int((after & ~before).sum()), int((before & ~after).sum())
        if won > lost and binomtest(won, won + lost).pvalue < 0.05:
            rises.append((won - lost) / n)
    finding = not_monotone(np.stack(curve))
    # Up to two samples of a thousand nothing is made of it.
    expected = max(rises) if max(rises) > 0.002 else None
    assert (finding and finding.value) == (expected and pytest.approx(expected))
    if finding is not None:
        assert f"rises by {100 * finding.value:.1f} points" in finding.message


def test_of_a_model_alone_nothing_is_transferred() -> None:
    results = drawn(np.random.default_rng(0), some=False)
    results.transferred[1:], results.transferred[0] = True, False
    codes = {warning.code for warning in attack_warnings(results, 0, NAMES, 2, None)}
    assert WarningCode.TRANSFER not in codes


@settings(max_examples=50)
@given(st.integers(0, 400), st.floats(0.001, 0.5))
def test_more_flags_than_a_bound_are_told_with_their_share(count: int, chance: float) -> None:
    """One in a hundred is a curiosity; of an attack without a bound no more than chance leaves."""
    flags = np.arange(400) < count
    share = count / 400
    for finding, bound in (
        (zero_gradients(flags), 0.01),
        (near_copies_reported(flags), 0.01),
        (unbounded_fails(flags, chance), min(0.01, chance)),
    ):
        assert (finding and finding.value) == (share if share > bound else None)
        assert finding is None or finding.message.startswith(f"{100 * share:.1f} % of the samples")


@pytest.mark.parametrize("passable", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_operators_that_block_are_counted(count: int, passable: bool) -> None:
    finding = blocked_gradients([f"Op{place}" for place in range(count)], passable)
    assert (finding is None) == (count == 0)
    if finding is not None:
        assert finding.value == count
        more = f" and {count - 1} more" if count > 1 else ""
        assert f"no gradient passes Op0{more}, but values do" in finding.message
        assert ("apgd-bpda" in finding.message) == passable


@pytest.mark.parametrize("value", [0.1, 0.15, 0.2, None])
@pytest.mark.parametrize("unfound", [0, 7, 60])
def test_a_median_is_a_budget_where_a_search_found_less(value: float | None, unfound: int) -> None:
    distance = Distance(value, 0.05, 0.3, N)
    finding = distance_is_budget(distance, BUDGETS, np.arange(N) < unfound)
    assert (finding is not None) == (value in BUDGETS and unfound > 0)
    if finding is not None:
        assert finding.value == unfound / N
        assert f"a budget, {value:g}," in finding.message
        assert f"of {100 * unfound / N:.1f} % of the samples" in finding.message


@settings(max_examples=50)
@given(st.integers(4, 100), st.integers(0, 20), st.booleans())
def test_planted_samples_that_are_missed_are_told_from_two_and_a_twentieth_on(
    planted: int, missed: int, obstructed: bool
) -> None:
    missed = min(missed, planted)
    obstacle = "it takes more" if obstructed else ""
    finding = planted_missed(PlantedTest(("one", "two"), planted, planted - missed, obstacle))
    if obstructed:
        assert finding is not None and finding.code is WarningCode.NOTHING_PLANTED
        assert finding.value == planted and finding.message.endswith("it takes more")
    elif missed >= 2 and 20 * missed > planted:
        assert finding is not None and finding.code is WarningCode.PLANTED_MISSED
        assert finding.value == missed / planted
        assert finding.message.startswith(f"one and two found {planted - missed} of {planted} ")
    else:
        assert finding is None


def test_a_warning_that_counts_nothing_has_the_number_of_what_it_is_about() -> None:
    """Of one model, and of no attack."""
    assert (CALIBRATION_DATA.value, no_white_box([]).value) == (1, 0)
