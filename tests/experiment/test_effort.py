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


def test_the_precision_asked_for_is_kept() -> None:
    n = samples_reported(HardenSetting(effort="quick", precision=4))
    low, high = wilson(n // 2, n)
    assert (high - low) / 2 == pytest.approx(0.04, abs=3e-4)
