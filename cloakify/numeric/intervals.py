"""Confidence intervals and tests for accuracies, alone and paired on the same samples.

Everything here works on counts, needs no table and no scipy, and behaves at the edges (no error
at all, no disagreement at all) where the textbook normal approximation claims certainty.
"""

from __future__ import annotations

from math import ceil, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""The confidence of every interval that cloakify prints."""


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for a proportion.

    Parameters
    ----------
    k, n
        Successes and trials, 0 ≤ k ≤ n and n ≥ 1.
    confidence
        Two-sided coverage in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper limit in [0, 1]; the lower one is exactly 0 at k = 0, the upper one
        exactly 1 at k = n.

    Raises
    ------
    ValueError
        If the counts are impossible.

    Notes
    -----
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927), 209–212.
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"{k} successes of {n} trials is not a proportion")
    z = _quantile(confidence)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high


def paired_difference(
    gained: int, lost: int, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Tango's score interval for the difference of two proportions on the same samples.

    Parameters
    ----------
    gained, lost
        Samples that only the second model gets right, and that only the first gets right;
        the difference is (gained - lost) / n.
    n
        All samples, those on which the models agree included.
    confidence
        Two-sided coverage in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper limit in [-1, 1]. With no discordant sample they are ∓z²/(n + z²): an
        agreement on n samples does not prove that the models never differ.

    Raises
    ------
    ValueError
        If the counts are impossible.

    Notes
    -----
    T. Tango, "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17 (1998), 891–908, equations 13 and 14;
    recommended by M. Fagerland, S. Lydersen and P. Laake, Statistics in Medicine 33 (2014),
    2850–2875. It inverts a test that at difference 0 is McNemar's: the interval excludes 0
    just where (gained - lost)² / (gained + lost) > z².
    """
    if gained < 0 or lost < 0 or gained + lost > n or n < 1:
        raise ValueError(f"{gained} gained and {lost} lost of {n} is not a pairing")
    z = _quantile(confidence)
    return -_upper_limit(lost, gained, n, z), _upper_limit(gained, lost, n, z)


def agreed_difference(
    gained: int, lost: int, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """`paired_difference`, widened to reach 0 where the exact McNemar test does not reject 0.

    Tango's interval inverts the test without its exactness: 4 samples gained and none lost exclude
    0 already, where the exact p is 0.125. Widened so, an interval excludes 0 just where p is below
    1 − confidence, and a claim that rests on the one rests on the other: the rule of every verdict.

    Parameters, return value and exceptions are those of `paired_difference`.
    """
    low, high = paired_difference(gained, lost, n, confidence)
    if mcnemar(gained, lost) >= 1 - confidence:
        return min(low, 0.0), max(high, 0.0)
    return low, high


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar test that gains and losses are equally likely.

    Parameters
    ----------
    gained, lost
        The two counts of discordant samples.

    Returns
    -------
    float
        The p-value, 2 · P(X ≤ min(gained, lost)) for X ~ Binomial(gained + lost, 1/2), at most 1.

    Raises
    ------
    ValueError
        If a count is negative.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"{gained} gained and {lost} lost are not counts")
    if gained == lost:
        return 1.0
    return min(1.0, 2 * float(_half_binomial_cdf(gained + lost)[min(gained, lost)]))


def median_ranks(n: int, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Which order statistics bound the median, whatever the distribution.

    Parameters
    ----------
    n
        Number of samples, at least 1.
    confidence
        Two-sided coverage in (0, 1), reached or exceeded.

    Returns
    -------
    tuple of int or None
        Zero-based ranks (low, high) in the sorted samples; None where n is too small for any
        pair of order statistics to reach the confidence (n < 6 at 95 %).

    Notes
    -----
    W. J. Conover, "Practical Nonparametric Statistics", section 3.2 (interval for a quantile).
    """
    tail = (1 - confidence) / 2
    low = int(np.searchsorted(_half_binomial_cdf(n), tail, side="right")) - 1
    return None if low < 0 else (low, n - 1 - low)


def samples_for(half_width: float, confidence: float = CONFIDENCE) -> int:
    """Return how many samples an accuracy's interval takes to reach no further to either side.

    ``⌈(z / 2h)²⌉``, by the normal approximation at an accuracy of one half, where it is widest;
    Wilson's interval is narrower than that.

    Raises
    ------
    ValueError
        The half width is not above 0.
    """
    if not half_width > 0:
        raise ValueError(f"no interval has a half width of {half_width}")
    return ceil((_quantile(confidence) / (2 * half_width)) ** 2)


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _upper_limit(gained: int, lost: int, n: int, z: float) -> float:
    """Largest difference that the score test does not reject, by bisection to float precision."""
    inside, outside = (gained - lost) / n, 1.0
    while True:
        middle = (inside + outside) / 2
        if middle in (inside, outside):
            return middle
        if _score_excess(middle, gained, lost, n, z) <= 0:
            inside = middle
        else:
            outside = middle


def _score_excess(delta: float, gained: int, lost: int, n: int, z: float) -> float:
    """Tango's squared score minus z², both times the variance, so that no variance divides."""
    a = 2 * n
    b = (2 * n - gained + lost) * delta - gained - lost
    c = -lost * delta * (1 - delta)
    # The restricted estimate of P(only the first model is right). For delta ≥ 0 the root is real;
    # rounding alone can push the discriminant below 0.
    q = (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * q + delta * (1 - delta))
    return (gained - lost - n * delta) ** 2 - z * z * variance


def _half_binomial_cdf(n: int) -> NDArray[np.float64]:
    """P(X ≤ i) for X ~ Binomial(n, 1/2), float64 [n + 1]; logs keep large n from underflow."""
    i = np.arange(n, dtype=np.float64)
    logs = np.concatenate([[0.0], np.cumsum(np.log(n - i) - np.log(i + 1))]) - n * log(2)
    return np.asarray(np.cumsum(np.exp(logs)), dtype=np.float64)
