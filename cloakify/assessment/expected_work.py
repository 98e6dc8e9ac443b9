"""What an evaluation or a hardening will take, from what a short attack leaves.

Counted in passes, with the shares of :class:`~cloakify.experiment.outlook.Pace`. Beyond the
budgets half of what stands is taken to fall with each doubling.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cloakify.attacks import Attack
from cloakify.data import Splits
from cloakify.evaluation.attack_results import AttackPlan, first_of_every, work_of
from cloakify.evaluation.planted_samples import PASSES, PLACES, PLANTED
from cloakify.experiment.chosen_attacks import evaluation_attack
from cloakify.experiment.effort import effort_of
from cloakify.experiment.outlook import FALLEN, Outlook, Pace, Work
from cloakify.graph.analysis.head import Head
from cloakify.masking.rankings import products_of
from cloakify.settings import HardenSetting

# Two runs, a gradient, and three looks at whether the whole model overrules its head.
PROBES = Work(forwards=5, steps=1)
# Graphs with a gradient that are built for a model: one for each loss, and for few samples; and
# those of a copy in which samples are planted.
GRAPHS = 6 + 2
# Sessions that masks are compared by, and made.
MASKING_GRAPHS = 8
# Of the masks that race in a round, those that have to be attacked on most samples, along the
# gradient and without.
RACING, FINALISTS = 6, 2


def outlook_of_plan(plan: AttackPlan, samples: int, models: int, pace: Pace) -> Outlook:
    """Return what an evaluation of models that are all like the first will take."""
    index = np.arange(samples)
    on = {
        stride: float(first_of_every(stride, index).mean())
        for stride in (plan.doubled_stride, plan.check_stride, plan.search_stride)
    }
    work = PROBES + Work(forwards=2)
    work += Work(steps=on[plan.search_stride] * pace.right * work_of(plan.nearest_search))
    for place, left in enumerate(pace.left):
        work += _attack(plan.attacks[0], pace.iterations(1, place))
        for attack in [*plan.attacks[1:], plan.doubled]:
            share = on[plan.doubled_stride] if attack is plan.doubled else 1.0
            work += _attack(attack, left).times(share)
        work += _attack(plan.transfer_attack, 1.0)
        # Noise, and the verdicts.
        work += Work(forwards=2 + len(plan.attacks) * left)
    if plan.white_box:
        work += _planted(plan.white_box, samples).times(1 / samples)
    work += _attack(plan.gradient_free_check, pace.left[-1]).times(on[plan.check_stride])
    standing = pace.left[-1]
    for _ in plan.extended_budgets:
        work += _attack(plan.extending, standing * (0.5 + 0.5 * FALLEN))
        standing /= 2
    names = ", ".join(f"{attack.name} ({attack.steps})" for attack in plan.attacks)
    kinds = f"{models} models" if models > 1 else "1 model"
    budgets = f"{len(plan.budgets)} budgets" if len(plan.budgets) > 1 else "1 budget"
    task = f"{samples} samples, {kinds}, {budgets}: {names}"
    whole = work.times(samples * models) + Work(graphs=GRAPHS * models)
    return Outlook(task, whole.seconds(pace), pace)


def outlook_of_masking(
    setting: HardenSetting, splits: Splits, attack: Attack, pace: Pace, head: Head
) -> Outlook:
    """Return what choosing a mask before a head and judging it will take."""
    effort, left = effort_of(setting), pace.left[-1]
    judged, work = _judging(setting, splits, attack, pace)
    pairs = _attack(attack, 1.0) + Work(forwards=1)
    rounds = 1
    if setting.masking.score == "auto":
        rounds = setting.masking.rounds or effort.rounds
        race = Work(
            forwards=1 + FINALISTS * left * effort.comparing_queries,
            steps=RACING * pace.iterations(effort.comparing_steps + 1),
        )
        work += race.times(rounds * min(effort.compared, len(splits.select)))
        # Later rounds know attacks on the best mask so far.
        work += pairs.times((rounds - 1) * len(splits.fit))
    work += pairs.times(len(splits.fit) + len(splits.select))
    products = rounds * products_of(setting.masking.score) * head.num_features * head.num_classes
    work += Work(graphs=MASKING_GRAPHS, products=products * len(splits.fit))
    chosen = f"{len(splits.fit)} samples calibrate, {len(splits.select)} choose a mask"
    return Outlook(f"{chosen}, {judged}", work.seconds(pace), pace)


def outlook_of_gates(
    setting: HardenSetting, splits: Splits, attack: Attack, pace: Pace, tuning: tuple[str, float]
) -> Outlook:
    """Return what tuning gates, in words and in seconds, and judging them will take."""
    judged, work = _judging(setting, splits, attack, pace)
    task, seconds = tuning
    return Outlook(f"{task}, {judged}", seconds + work.seconds(pace), pace)


def _judging(
    setting: HardenSetting, splits: Splits, attack: Attack, pace: Pace
) -> tuple[str, Work]:
    """Return in words, and as work, how what was made is judged."""
    effort, left = effort_of(setting), pace.left[-1]
    judging = evaluation_attack(setting, stop_early=True)
    onward = judging.steps if effort.onward is None else effort.onward
    # Of the source, the hardened model and the control; what falls is driven on, once.
    report = Work(forwards=10) + _attack(attack, 1.0) + _attack(judging, left).times(2)
    # Half of what falls is taken to stand then.
    report += _attack(judging, (left + pace.right) / 2)
    report += Work(steps=(1 - left) * min(onward + 1, judging.steps))
    report += Work(steps=(pace.right - left) * FALLEN * judging.steps)
    work = report.times(len(splits.report)) + Work(graphs=GRAPHS)
    probed = len(splits.report) if effort.probed is None else effort.probed
    work += PROBES.times(min(probed, len(splits.report)))
    checked = min(effort.checked, left * len(splits.report))
    work += Work(forwards=checked * effort.checking_queries)
    work += _planted([judging], len(splits.report))
    return f"{len(splits.report)} samples judge it by {judging.name} ({judging.steps})", work


def _planted(attacks: Sequence[Attack], samples: int) -> Work:
    """Return what it takes to try attacks at some of the samples where something is planted."""
    tried = sum((_attack(attack, 1.0) for attack in attacks), Work())
    return (tried.times(PLACES) + Work(forwards=PASSES)).times(min(PLANTED, samples))


def _attack(attack: Attack | None, share: float) -> Work:
    """Return the passes of an attack on a share of the samples."""
    if attack is None:
        return Work()
    if attack.gradient == "white-box":
        return Work(steps=share * (work_of(attack) + 1))
    return Work(forwards=share * attack.steps)
