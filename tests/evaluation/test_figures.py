"""Figures count what they say they count, and refuse what cannot be measured."""

from __future__ import annotations

import msgspec
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
from cloakify.evaluation.figures import Distance, PairedDifference
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


# Of each record a sound one, and what its numbers lie between.
BOUNDS = [
    (Figure(0.5, 0.4, 0.6, 9), dict.fromkeys(("value", "low", "high"), (0, 1)) | {"n": (1, None)}),
    (
        Difference(0.5, 0.4, 0.6, 9),
        dict.fromkeys(("value", "low", "high"), (-1, 1)) | {"n": (1, None)},
    ),
    (
        Distance(0.5, 0.4, 0.6, 9),
        dict.fromkeys(("value", "low", "high"), (0, None)) | {"n": (1, None)},
    ),
    (
        PairedDifference(Difference(0.1, 0, 0.2, 9), 2, 1, 0.5),
        {"gained": (0, None), "lost": (0, None), "p_value": (0, 1)},
    ),
]


@pytest.mark.parametrize(("record", "bounds"), BOUNDS)
def test_what_no_figure_can_be_is_not_read_as_one(
    record: object, bounds: dict[str, tuple[int, int | None]]
) -> None:
    """The bounds themselves are figures, and what is next to them outside is none."""
    fields = msgspec.to_builtins(record)
    for name, (low, high) in bounds.items():
        whole = isinstance(fields[name], int)
        beyond = [low - 1 if whole else float(np.nextafter(low, -9))]
        if high is None:
            inside = [low, low + 10**6]
        else:
            inside = [low, high]
            beyond.append(float(np.nextafter(high, 9)))
        for value in inside:
            read = msgspec.convert({**fields, name: value}, type(record))
            assert getattr(read, name) == value
        for value in beyond:
            with pytest.raises(msgspec.ValidationError, match=name):
                msgspec.convert({**fields, name: value}, type(record))


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, np.inf]), min_size=1, max_size=40))
def test_a_median_has_half_of_all_on_either_side_and_an_interval_around_it(
    distances: list[float],
) -> None:
    found = median_distance(distances)
    value, low, high = (
        np.inf if each is None else each for each in (found.value, found.low, found.high)
    )
    assert found.n == len(distances) and low <= value <= high
    with np.errstate(invalid="ignore"):
        assert value == pytest.approx(np.median(distances), nan_ok=True)
    # An interval by order statistics is one of the distances at either end.
    assert len(distances) < 6 or (low in distances and high in distances)
