"""What a run will take is counted as what it does take: passes are counted where they happen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cloakify.assessment.attack_plan import chosen_attacks, plan_attacks
from cloakify.assessment.expected_work import outlook_of_plan
from cloakify.attacks import Apgd
from cloakify.data import Batch
from cloakify.experiment.outlook import FALLEN, Outlook, Pace, Work, measure_pace
from cloakify.settings import EvaluateSetting
from tests.support.classifiers import linear_classifier, target_of, threat_of


class Rows:
    """Samples of a linear model, in memory."""

    sample_shape = (9,)

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: np.ndarray) -> Batch:
        return Batch(self.x[rows], self.y[rows], rows)


def test_shares_are_those_of_a_short_attack() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((9, 4)).astype(np.float32)
    target = target_of(linear_classifier(weight, np.zeros(4, np.float32)), batch_size=16)
    x = rng.uniform(0, 1, (32, 9)).astype(np.float32)
    y = target.logits(x).argmax(axis=1)
    y[::4] = (y[::4] + 1) % 4
    threats = [threat_of(target, "linf", eps) for eps in (1e-4, 0.05, 0.5)]
    data: object = Rows(x, y)
    pace = measure_pace(target, threats, data, np.arange(32), gradients=True)  # type: ignore[arg-type]
    assert pace.right == 0.75
    expected = [
        np.mean(target.correct(Apgd(steps=100).run(target, x, y, np.arange(32), each), y))
        for each in threats
    ]
    assert pace.left == pytest.approx(expected, abs=1 / 32)
    assert pace.left[0] > pace.left[1] > pace.left[2]
    assert 0 < pace.forward <= pace.step
    blind = measure_pace(target, threats, data, np.arange(32), gradients=False)  # type: ignore[arg-type]
    assert blind.left == (0.75,) * 3 and blind.step == blind.forward


def outlook(left: float, **options: object) -> Outlook:
    setting = EvaluateSetting(effort="quick", **options)
    target = target_of(linear_classifier(np.ones((9, 4), np.float32), np.zeros(4, np.float32)))
    plan = plan_attacks(
        setting, chosen_attacks(setting), threat_of(target, "linf", 0.1), (9,), 100, 1
    )
    pace = Pace(0.0, 0.001, 0.003, 1.0, (left,) * len(plan.budgets))
    return outlook_of_plan(plan, 100, 1, pace)


def test_what_withstands_and_more_budgets_take_longer() -> None:
    few, many = outlook(0.1), outlook(0.9)
    assert few.seconds < many.seconds
    # The first attack alone is 100 samples of 21 looks at most, here 3 ms each.
    assert many.seconds > 100 * 21 * 0.003 * 0.9
    assert outlook(0.5, eps=(0.02, 0.05)).seconds > outlook(0.5, eps=(0.05,)).seconds
    assert "100 samples, 1 model, 1 budget: apgd (20), apgd-t (12)" in few.task


def test_work_adds_up() -> None:
    pace = Pace(7.0, 0.5, 2.0, 0.9, (0.4,))
    assert (Work(2, 3) + Work(1, 0, 1)).times(2).seconds(pace) == 2 * (3 * 0.5 + 3 * 2.0 + 7)
    assert Work(products=8).seconds(replace(pace, product=0.25)) == 2
    assert pace.iterations(10) == pytest.approx(10 * (0.4 + FALLEN * 0.5))
