"""Figures count what they say they count, and refuse what cannot be measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import DataError
from cloakify.evaluation import (
    Difference,
    Figure,
    accuracy_figure,
    compare,
    gain_figure,
    median_distance,
)
from cloakify.numeric.intervals import agreed_difference, mcnemar, wilson


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_accuracy_is_the_share(correct: list[bool]) -> None:
    figure = accuracy_figure(np.array(correct))
    low, high = wilson(sum(correct), len(correct))
    assert figure == Figure(sum(correct) / len(correct), low, high, len(correct))
    assert figure.low <= figure.value <= figure.high


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_comparison_counts_each_sample_once(pairs: list[tuple[bool, bool]]) -> None:
    second, first = np.array(pairs).T
    paired = compare(second, first)
    gained = sum(b and not a for b, a in pairs)
    lost = sum(a and not b for b, a in pairs)
    low, high = agreed_difference(gained, lost, len(pairs))
    assert (paired.gained, paired.lost, paired.p_value) == (gained, lost, mcnemar(gained, lost))
    assert paired.difference == Difference((gained - lost) / len(pairs), low, high, len(pairs))
    assert paired.difference == gain_figure(second, first)


def test_pairing_narrows_the_interval() -> None:
    """The same accuracies, with errors on the same samples or on others."""
    source = np.arange(400) < 200
    same = np.arange(400) < 210
    others = np.arange(400) >= 190
    assert gain_figure(same, source).value == gain_figure(others, source).value
    assert gain_figure(same, source).low > 0 > gain_figure(others, source).low


def test_dict_form_is_plain() -> None:
    figure = accuracy_figure(np.array([True, False])).to_dict()
    assert list(figure) == ["value", "low", "high", "n"]
    assert [type(part) for part in figure.values()] == [float, float, float, int]


@pytest.mark.parametrize("measure", [accuracy_figure, median_distance])
def test_nothing_measured_is_an_error(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(DataError, match="no samples"):
        measure(np.zeros(0, dtype=bool))


def test_probabilities_are_not_correctness() -> None:
    with pytest.raises(ValueError, match="bool vector"):
        accuracy_figure(np.array([0.2, 0.9]))
    with pytest.raises(ValueError, match="3 and 2"):
        gain_figure(np.ones(3, dtype=bool), np.ones(2, dtype=bool))


def test_median_distance_knows_what_was_never_fooled() -> None:
    mostly = median_distance([0.1] * 3 + [0.2] * 17 + [np.inf] * 10)
    assert (mostly.value, mostly.low, mostly.n) == (0.2, 0.2, 30) and mostly.high is None
    robust = median_distance([np.inf] * 30)
    assert (robust.value, robust.low, robust.high) == (None, None, None)
    few = median_distance([0.3, 0.1])
    assert (few.value, few.low, few.high) == (0.2, 0.0, None)
    with pytest.raises(ValueError, match="NaN"):
        median_distance([np.nan])
