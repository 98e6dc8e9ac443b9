"""What an effort makes of an evaluation, counted in forward passes."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.assessment.attack_plan import chosen_attacks, plan_attacks
from cloakify.attacks import Apgd, ApgdT, AutoAttack, FabT, Square
from cloakify.evaluation.attack_results import AttackPlan, work_of
from cloakify.evaluation.planted_samples import PASSES, PLACES, PLANTED
from cloakify.settings import EvaluateSetting
from tests.support.classifiers import linear_classifier, target_of, threat_of

SHAPE = (3, 224, 224)
# Of a step along a gradient, forward and backward, above what is measured on ResNets.
STEP = 2.4
# Looks at a sample that falls, above what is measured on the sample models (3 to 7).
FALLING = 10
# Before any attack: two runs, a gradient, and three looks at whether the model overrules its head;
# then clean and noisy samples, and the verdict on each attack's.
LOOKS = 1 + 1 + STEP + 3 + 2 + 8


def plan_of(samples: int, **options: object) -> AttackPlan:
    setting = EvaluateSetting(**options)
    wide = target_of(linear_classifier(np.ones((4, 2), np.float32), np.zeros(2, np.float32)))
    threat = threat_of(wide, "linf", setting.threat.eps[-1])
    return plan_attacks(setting, chosen_attacks(setting), threat, SHAPE, samples, 1)


def passes(plan: AttackPlan, samples: int, robust: float) -> float:
    """Count forward passes a sample where a share withstands all of the budget.

    What withstands falls at four times the budget, and each start is looked at too.
    """

    def on(stride: int) -> float:
        return len(range(0, samples, stride)) / samples

    first = plan.attacks[0]
    steps = robust * sum(work_of(attack) + 3 for attack in plan.attacks)
    steps += (1 - robust) * min(FALLING, work_of(first) + 1)
    steps += robust * on(plan.doubled_stride) * (work_of(plan.doubled) + 1)
    steps += robust * on(plan.check_stride) * work_of(plan.gradient_free_check)
    steps += on(plan.search_stride) * work_of(plan.nearest_search)
    steps += robust * 2 * (work_of(plan.extending) + 1)
    # What is planted falls to the first attack, too.
    planted = PASSES + PLACES * STEP * (work_of(first) + 3)
    return LOOKS + STEP * steps + planted * PLANTED / samples


@pytest.mark.parametrize(("effort", "most"), [("quick", 100), ("standard", 400)])
def test_passes_of_an_effort(effort: str, most: int) -> None:
    assert most / 2 < passes(plan_of(500, effort=effort), 500, 0.5) <= most


def test_thorough_leaves_nothing_out() -> None:
    plan = plan_of(400, effort="thorough")
    apgd, targeted = plan.attacks
    assert isinstance(apgd, Apgd) and isinstance(targeted, ApgdT)
    assert (apgd.steps, targeted.steps, targeted.num_targets) == (100, 100, 9)
    assert not targeted.by_slope
    assert plan.doubled is not None and plan.doubled.steps == 200
    assert plan.extending.steps == 100
    assert plan.doubled_stride == plan.check_stride == plan.search_stride == 1
    assert plan.gradient_free_check is not None and plan.gradient_free_check.steps == 1000
    assert isinstance(plan.nearest_search, FabT)
    assert (plan.nearest_search.steps, plan.nearest_search.num_targets) == (60, 3)


@pytest.mark.parametrize("effort", ["quick", "standard", "thorough"])
def test_autoattack_is_the_standard_one_at_any_effort(effort: str) -> None:
    plan = plan_of(400, effort=effort, attack="autoattack", seed=5)
    for planned, standard in zip(plan.attacks, AutoAttack(seed=5).attacks, strict=True):
        assert type(planned) is type(standard) and vars(planned) == vars(standard)
    assert [type(attack) for attack in plan.attacks] == [Apgd, ApgdT, FabT, Square]


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"norm": "l2"}, "apgd-multi"),
        ({"norm": "l2", "effort": "thorough"}, "apgd-multi"),
        ({"norm": "l2", "effort": "quick"}, "apgd"),
        ({"norm": "l2", "effort": "quick", "steps": 60}, "apgd-multi"),
        ({"norm": "l2", "steps": 59}, "apgd"),
        ({"norm": "l2", "attack": "apgd,apgd-t"}, "apgd"),
        ({"norm": "linf", "effort": "thorough"}, "apgd"),
    ],
)
def test_in_l2_larger_balls_come_first_where_there_are_steps_for_them(
    options: dict[str, object], first: str
) -> None:
    plan = plan_of(400, **options)
    assert [attack.name for attack in plan.attacks] == [first, "apgd-t"]
    assert plan.doubled is not None
    assert (plan.doubled.name, plan.extending.name) == (first, first)
    assert plan.doubled.steps == 2 * plan.attacks[0].steps


def test_options_win_over_the_effort() -> None:
    plan = plan_of(400, effort="quick", steps=33, queries=44)
    assert [attack.steps for attack in plan.attacks] == [33, 33]
    assert plan.gradient_free_check is not None and plan.gradient_free_check.steps == 44


def test_attacks_of_other_names_keep_their_own_numbers() -> None:
    plan = plan_of(400, effort="quick", attack="pgd,square,fgsm")
    assert {attack.name: attack.steps for attack in plan.attacks} == {
        "pgd": 10,
        "fgsm": 1,
        "square": 5000,
    }
