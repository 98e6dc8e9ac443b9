"""Which budgets the curve shows, and where its marks are."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.evaluation import accuracy_figure
from cloakify.report import EvaluateReport
from cloakify.report.chart import evaluate_chart, last_budget
from cloakify.report.comparison import CurvePoint
from tests.support.reports import make_evaluate

N = 100
BUDGETS = (0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255, 1.0)
ASKED = 8 / 255

falling = st.lists(st.integers(0, N), min_size=len(BUDGETS), max_size=len(BUDGETS)).map(
    lambda counts: sorted(counts, reverse=True)
)


def with_curves(*counts: list[int]) -> EvaluateReport:
    """A report on ten classes whose models get so many of N right at each of BUDGETS."""
    report = make_evaluate()
    models = [
        replace(
            model,
            curve=tuple(
                CurvePoint(eps, accuracy_figure(np.arange(N) < right))
                for eps, right in zip(BUDGETS, curve, strict=True)
            ),
        )
        for model, curve in zip(report.models, counts, strict=True)
    ]
    return msgspec.structs.replace(report, models=tuple(models))


def test_the_chart_ends_where_the_last_model_is_down_to_chance() -> None:
    early, late = [90, 80, 50, 30, 9, 0, 0], [90, 85, 80, 60, 40, 10, 0]
    assert (
        last_budget(with_curves(early, late)) == last_budget(with_curves(late, early)) == 32 / 255
    )
    assert last_budget(with_curves(early, early)) == 16 / 255
    assert last_budget(with_curves(late, [90] * 7)) == 1.0
    # Chance itself is reached, and a budget that was asked for is always shown.
    assert last_budget(with_curves([90, 10, 5, 0, 0, 0, 0], [9] * 7)) == ASKED


@settings(max_examples=60, deadline=None)
@given(falling, falling)
def test_budgets_beyond_are_shown_as_long_as_a_model_is_above_chance(
    first: list[int], second: list[int]
) -> None:
    last = last_budget(with_curves(first, second))
    assert last in BUDGETS and last >= ASKED
    for place, eps in enumerate(BUDGETS):
        if eps > ASKED:
            reached = [any(right <= N / 10 for right in curve[:place]) for curve in (first, second)]
            assert (eps <= last) == (not all(reached))


def test_marks_stand_where_their_values_are() -> None:
    """A curve's mark for 50 % is half way, and the last budget's is at the right end."""
    chart = ElementTree.fromstring(
        evaluate_chart(with_curves([100, 50, 50, 50, 0, 0, 0], [100, 50, 25, 20, 0, 0, 0]))
    )
    curves = [group for group in chart.iter("g") if group.find("polyline") is not None]
    for curve, shares in zip(curves, ([100, 50, 50, 50, 0], [100, 50, 25, 20, 0]), strict=True):
        dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in curve.iter("circle")]
        assert len(dots) == len(shares)
        top, bottom = dots[0][1], dots[-1][1]
        left, right = dots[0][0], dots[-1][0]
        for (x, y), share, eps in zip(dots, shares, BUDGETS, strict=False):
            assert abs((bottom - y) / (bottom - top) - share / 100) < 1e-3
            assert abs((x - left) / (right - left) - eps / (16 / 255)) < 1e-3
        titles = [title.text or "" for title in curve.iter("title")]
        assert [float(re.search(r": (\S+)", text)[1]) for text in titles] == shares
