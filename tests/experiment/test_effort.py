"""`--effort` stands for numbers, each of which an option of its own can give."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from cloakify.experiment.chosen_attacks import evaluation_attack
from cloakify.experiment.effort import EFFORTS, effort_of, samples_reported
from cloakify.numeric.intervals import wilson
from cloakify.settings import HardenSetting


def test_more_effort_is_never_less_work() -> None:
    for less, more in pairwise(EFFORTS[name] for name in ("quick", "standard", "thorough")):
        assert less.half_width > more.half_width
        numbers = [
            [np.inf if value is None else value for value in vars(effort).values()]
            for effort in (replace(less, half_width=0), replace(more, half_width=0))
        ]
        assert all(one <= other for one, other in zip(*numbers, strict=True))


@pytest.mark.parametrize("name", EFFORTS)
def test_options_win_over_the_effort(name: str) -> None:
    setting = HardenSetting(effort=name)
    assert evaluation_attack(setting, stop_early=True).steps == effort_of(setting).steps
    given = setting.replace(evaluation_steps=7, report_limit=11)
    assert evaluation_attack(given, stop_early=True).steps == 7
    assert samples_reported(given) == 11


@pytest.mark.parametrize(
    ("options", "name", "steps"),
    [
        ({}, "apgd", 20),
        ({"norm": "l2"}, "apgd-multi", 60),
        ({"norm": "l2", "effort": "quick"}, "apgd", 10),
        ({"norm": "l2", "effort": "thorough"}, "apgd-multi", 100),
        ({"norm": "l2", "evaluation_steps": 59}, "apgd", 59),
        ({"norm": "l2", "effort": "quick", "evaluation_steps": 60}, "apgd-multi", 60),
        ({"norm": "l2", "evaluation_attack": "apgd-dlr"}, "apgd-dlr", 20),
        ({"evaluation_attack": "apgd-multi"}, "apgd-multi", 20),
    ],
)
def test_in_l2_larger_balls_judge_where_there_are_steps_for_them(
    options: dict[str, object], name: str, steps: int
) -> None:
    attack = evaluation_attack(HardenSetting(**options), stop_early=True)
    assert (attack.name, attack.steps) == (name, steps)
    # Masks are compared by a few steps of the ball's own.
    few = evaluation_attack(HardenSetting(norm="l2"), stop_early=True, steps=4)
    assert (few.name, few.steps) == ("apgd", 4)


def test_the_precision_asked_for_is_kept() -> None:
    n = samples_reported(HardenSetting(effort="quick", precision=4))
    low, high = wilson(n // 2, n)
    assert (high - low) / 2 == pytest.approx(0.04, abs=3e-4)
