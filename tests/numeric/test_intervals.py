"""Intervals and tests against scipy, published values and simulated coverage."""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.numeric.intervals import (
    agreed_difference,
    mcnemar,
    median_ranks,
    paired_difference,
    samples_for,
    wilson,
)

Z = 1.959963984540054


@st.composite
def pairings(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 5000))
    gained = draw(st.integers(0, n))
    return gained, draw(st.integers(0, n - gained)), n


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(1, 10_000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, share: float, confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    k = round(share * n)
    oracle = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


@given(st.integers(1, 10_000))
def test_wilson_at_the_edges(n: int) -> None:
    low, high = wilson(0, n)
    assert low == 0.0 and 0 < high < 1
    assert wilson(n, n) == pytest.approx((1 - high, 1.0))
    assert wilson(n, n)[1] == 1.0


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_what_is_no_proportion(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(k, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_lies_between_0_and_1(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)


def test_paired_difference_published() -> None:
    # Airway hyper-responsiveness before and after stem cell transplantation, in Fagerland,
    # Lydersen & Laake (2014): 1 and 7 discordant of 21.
    assert paired_difference(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@settings(deadline=None)  # the first example imports scipy
@given(pairings())
def test_paired_difference_inverts_the_score_test(pairing: tuple[int, int, int]) -> None:
    """Each limit lies where the restricted likelihood, maximised by scipy, puts the score at z."""
    optimize = pytest.importorskip("scipy.optimize")
    gained, lost, n = pairing
    both = n - gained - lost

    def score(delta: float) -> float:
        # q is the chance of a loss, q + delta of a gain, the rest agrees; the derivative of the
        # log-likelihood in q, times its three denominators.
        def slope(q: float) -> float:
            rest = 1 - 2 * q - delta
            return (gained * q + lost * (q + delta)) * rest - 2 * both * q * (q + delta)

        bottom, top = max(0.0, -delta), (1 - delta) / 2
        margin = (top - bottom) * 1e-13
        if slope(bottom + margin) <= 0:
            q = bottom
        elif slope(top - margin) >= 0:
            q = top
        else:
            q = optimize.brentq(slope, bottom + margin, top - margin, xtol=1e-16)
        return (gained - lost - n * delta) / (n * (2 * q + delta - delta**2)) ** 0.5

    low, high = paired_difference(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    if low > -1:
        assert score(low) == pytest.approx(Z, rel=1e-4)
    if high < 1:
        assert score(high) == pytest.approx(-Z, rel=1e-4)


@given(pairings())
def test_paired_difference_excludes_0_where_mcnemars_score_does(
    pairing: tuple[int, int, int],
) -> None:
    gained, lost, n = pairing
    low, high = paired_difference(gained, lost, n)
    rejects = (gained - lost) ** 2 > Z**2 * (gained + lost)
    assert (low > 0 or high < 0) == rejects
    assert paired_difference(lost, gained, n) == (-high, -low)


@given(pairings(), st.sampled_from([0.8, 0.95, 0.99]))
def test_agreed_difference_never_disagrees_with_the_exact_test(
    pairing: tuple[int, int, int], confidence: float
) -> None:
    low, high = agreed_difference(*pairing, confidence)
    assert (low > 0 or high < 0) == (mcnemar(*pairing[:2]) < 1 - confidence)
    plain = paired_difference(*pairing, confidence)
    assert low <= plain[0] and high >= plain[1]
    assert (low, high) == plain or 0 in (low, high)


@pytest.mark.parametrize(("gained", "proven"), [(4, False), (5, False), (6, True)])
def test_a_handful_of_samples_proves_nothing(gained: int, proven: bool) -> None:
    assert paired_difference(gained, 0, 100)[0] > 0
    assert (agreed_difference(gained, 0, 100)[0] > 0) is proven


@given(st.integers(1, 100_000))
def test_agreement_is_not_certainty(n: int) -> None:
    low, high = paired_difference(0, 0, n)
    assert high == pytest.approx(Z**2 / (n + Z**2)) and low == -high


def test_paired_difference_at_total_disagreement() -> None:
    low, high = paired_difference(40, 0, 40)
    assert 0.8 < low < 1 and high == 1.0


@pytest.mark.parametrize(("gained", "lost", "n"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_paired_difference_refuses_impossible_counts(gained: int, lost: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a pairing"):
        paired_difference(gained, lost, n)


@pytest.mark.parametrize(
    ("gain", "loss", "n"),
    [(0.02, 0.01, 500), (0.05, 0.05, 200), (0.10, 0.02, 100), (0.0, 0.01, 1000), (0.3, 0.1, 50)],
)
def test_paired_difference_covers(gain: float, loss: float, n: int) -> None:
    """Seeded simulation: the true difference lies inside in about 95 % of 20,000 trials."""
    interval = cache(lambda gained, lost: paired_difference(gained, lost, n))
    counts = np.random.default_rng(0).multinomial(n, [gain, loss, 1 - gain - loss], size=20_000)
    limits = np.array([interval(int(gained), int(lost)) for gained, lost, _ in counts])
    covered = (limits[:, 0] <= gain - loss) & (gain - loss <= limits[:, 1])
    assert 0.94 <= covered.mean() <= 0.99


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial(gained: int, lost: int) -> None:
    total, least = gained + lost, min(gained, lost)
    tail = sum(comb(total, i) for i in range(least + 1))
    exact = 1.0 if gained == lost else min(1.0, 2 * tail / 2**total)
    assert mcnemar(gained, lost) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_mcnemar_on_many_samples_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    oracle = stats.binomtest(24_600, 50_000).pvalue
    assert mcnemar(24_600, 25_400) == pytest.approx(oracle, rel=1e-8)
    assert mcnemar(0, 0) == 1.0
    with pytest.raises(ValueError, match="not counts"):
        mcnemar(-1, 2)


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(1, 400), st.sampled_from([0.8, 0.95, 0.99]))
def test_median_ranks_are_scipys(n: int, confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    oracle = stats.quantile_test(np.arange(n), p=0.5).confidence_interval(confidence)
    ranks = median_ranks(n, confidence)
    if ranks is None:
        assert np.isnan(oracle.low) or np.isnan(oracle.high)
    else:
        assert ranks == (oracle.low, oracle.high)


@given(st.floats(0.005, 0.1), st.floats(0, 1))
def test_so_many_samples_make_an_interval_reach_no_further(half_width: float, share: float) -> None:
    n = samples_for(half_width)
    low, high = wilson(round(share * n), n)
    assert high - low <= 2 * half_width
    # With a fifth fewer it would reach further, at an accuracy of one half.
    fewer = int(0.8 * n)
    low, high = wilson(fewer // 2, fewer)
    assert fewer < 30 or high - low > 2 * half_width


def test_no_interval_has_no_width() -> None:
    with pytest.raises(ValueError, match="half width"):
        samples_for(0)
