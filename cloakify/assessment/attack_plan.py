"""From the options of `evaluate` to what is tried on each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cloakify.attacks import Attack, ThreatModel
from cloakify.attacks.apgd import Apgd, ApgdBpda
from cloakify.attacks.apgd_multi import ApgdMulti, untargeted
from cloakify.attacks.apgd_t import ApgdT
from cloakify.attacks.cascade import AutoAttack
from cloakify.attacks.fab import FabT
from cloakify.attacks.fgsm import Fgsm
from cloakify.attacks.registry import make_attack
from cloakify.attacks.threat import check_width
from cloakify.data import Copies
from cloakify.errors import UsageError
from cloakify.evaluation.attack_results import AttackPlan
from cloakify.experiment.effort import thoroughness_of
from cloakify.settings import EvaluateSetting


def plan_attacks(
    setting: EvaluateSetting,
    chosen: Sequence[Attack],
    threat: ThreatModel,
    sample_shape: tuple[int, ...],
    samples: int,
    models: int,
    given: Copies | None = None,
    passable: bool = False,
) -> AttackPlan:
    """Return what to try.

    Parameters
    ----------
    chosen
        What :func:`chosen_attacks` makes of the setting.
    threat
        Norm and box.
    sample_shape
        Without the batch axis.
    samples
        How many there are.
    models
        How many there are; samples are crafted for others only where there are others.
    given
        Attacked copies of the samples.
    passable
        Whether a model makes steps or levels that a gradient can be let through: an attack that
        does is added to those that follow it, before other kinds of Auto-PGD, for what is told
        beyond the budgets is told by the first attack.

    Raises
    ------
    UsageError
        An option is out of its range.
    """
    budgets = check_budgets(setting.threat.eps)
    for eps in budgets:
        check_width(threat, eps)
    attacks = list(chosen)
    if passable and "white-box" in [attack.gradient for attack in attacks]:
        through: list[Attack] = [each for each in attacks if isinstance(each, ApgdBpda)]
        attacks = [attack for attack in attacks if attack not in through]
        leading = bool(attacks) and isinstance(attacks[0], Apgd | ApgdT)
        place = 0 if leading else len(attacks)
        attacks[place:place] = through or [_by_effort(ApgdBpda(), setting)]
    # Those that follow the gradient come first, so that it can be told what they leave.
    attacks.sort(key=lambda attack: attack.gradient != "white-box")
    white_box = attacks[0].gradient == "white-box"
    gradient_free = attacks[-1].gradient == "gradient-free"
    effort = thoroughness_of(setting)
    queries = setting.attack.queries or effort.checking_queries
    first, seed = attacks[0], setting.run.seed
    nearest_steps = min(effort.searching_steps, setting.attack.steps or effort.searching_steps)
    extending_steps = min(first.steps, effort.extending_steps or first.steps)
    return AttackPlan(
        budgets=budgets,
        extended_budgets=_extended_budgets(budgets[-1], _unbounded_budget(threat, sample_shape)),
        attacks=tuple(attacks),
        doubled=None if first.steps == 1 else _again(first, seed, steps=2 * first.steps),
        doubled_stride=_stride(samples, effort.doubled_on),
        transfer_attack=_again(first, seed, stop_early=False) if models > 1 else None,
        onward=effort.onward,
        gradient_free_check=None
        if gradient_free
        else make_attack("square", steps=queries, seed=seed),
        check_stride=_stride(samples, effort.checked),
        extending=_again(first, seed, steps=extending_steps),
        nearest_search=FabT(
            steps=nearest_steps,
            num_targets=effort.searching_targets,
            stop_early=False,
            straight_through=passable,
        )
        if white_box
        else None,
        search_stride=_stride(samples, effort.searched),
        given_copies=given,
        seed=seed,
    )


def check_budgets(budgets: tuple[float, ...]) -> tuple[float, ...]:
    """Return the budgets in ascending order.

    Raises
    ------
    UsageError
        There is none, one is not positive, or one is given twice.
    """
    ordered = tuple(sorted(budgets))
    if not ordered or not ordered[0] > 0 or not math.isfinite(ordered[-1]):
        shown = ",".join(f"{eps:g}" for eps in budgets)
        raise UsageError(f"--eps takes numbers above 0, not {shown or 'nothing'}")
    for one, other in pairwise(ordered):
        if one == other:
            raise UsageError(f"--eps has {one:g} twice: give each budget once")
    return ordered


def chosen_attacks(setting: EvaluateSetting) -> list[Attack]:
    """Return the attacks that were asked for, with their settings.

    Raises
    ------
    UsageError
        There is no such attack, it has not the settings that are given, or it is named twice.
    """
    attacks: list[Attack] = []
    for name in _names(setting):
        attack = make_attack(name, seed=setting.run.seed)
        if isinstance(attack, AutoAttack):
            # The standard is no standard with other settings than its authors', unless asked for.
            attacks += [_as_asked(part, setting) for part in attack.attacks]
        else:
            attacks.append(_by_effort(attack, setting))
    for place, attack in enumerate(attacks):
        if attack.name in [other.name for other in attacks[:place]]:
            raise UsageError(f"--attack names {attack.name} twice: name each attack once")
    stepping = any(each.gradient == "white-box" and not isinstance(each, Fgsm) for each in attacks)
    if setting.attack.steps is not None and not stepping:
        taken = ": it takes --queries" if attacks[-1].gradient == "gradient-free" else ""
        raise UsageError(f"--attack {setting.attack.names} has no --steps{taken}")
    return attacks


def _names(setting: EvaluateSetting) -> list[str]:
    """Return the names of the attacks that were asked for."""
    if setting.attack.names != "auto":
        return [name.strip() for name in setting.attack.names.split(",")]
    steps = setting.attack.steps or thoroughness_of(setting).steps or ApgdMulti().steps
    return [untargeted(setting.threat.norm, steps), ApgdT.name]


def label_attack(setting: EvaluateSetting, chosen: Sequence[Attack]) -> Attack:
    """Return the first attack as it drives every label of a sample as far as it goes."""
    return _again(chosen[0], setting.run.seed, stop_early=False)


def _by_effort(attack: Attack, setting: EvaluateSetting) -> Attack:
    """Make an attack anew with the settings that were asked for; Auto-PGD's else by effort."""
    effort = thoroughness_of(setting)
    if isinstance(attack, ApgdT):
        return ApgdT(
            steps=setting.attack.steps or effort.targeted_steps or attack.steps,
            num_targets=effort.targets,
            by_slope=effort.by_slope,
            seed=setting.run.seed,
        )
    if isinstance(attack, ApgdMulti):
        steps = setting.attack.steps or effort.steps or attack.steps
        return ApgdMulti(steps=steps, restarts=effort.wide_runs, seed=setting.run.seed)
    if isinstance(attack, Apgd) and setting.attack.steps is None:
        return _again(attack, setting.run.seed, steps=effort.steps or attack.steps)
    return _as_asked(attack, setting)


def _as_asked(attack: Attack, setting: EvaluateSetting) -> Attack:
    """Make an attack anew with the steps that were asked for, where any were."""
    steps = setting.attack.steps if attack.gradient == "white-box" else setting.attack.queries
    return _again(attack, setting.run.seed, steps=steps)


def _again(
    attack: Attack, seed: int, *, steps: int | None = None, stop_early: bool = True
) -> Attack:
    """Make an attack anew, with its own steps where no others are given."""
    steps = steps or attack.steps
    if isinstance(attack, ApgdT):
        targets, by_slope = attack.num_targets, attack.by_slope
        return ApgdT(
            steps=steps, num_targets=targets, by_slope=by_slope, stop_early=stop_early, seed=seed
        )
    own = None if isinstance(attack, Fgsm) else steps
    return make_attack(attack.name, steps=own, stop_early=stop_early, seed=seed)


def _stride(samples: int, most: int | None) -> int:
    """Return of how many samples to take the first, so that there are at most so many."""
    return 1 if most is None else max(1, -(-samples // most))


def _unbounded_budget(threat: ThreatModel, sample_shape: tuple[int, ...]) -> float:
    """Return the budget that reaches every point of the box; infinite where there is no box."""
    width = np.float64(1) * (threat.upper - threat.lower) / threat.factor
    if threat.norm == "linf":
        return float(width.max())
    return float(np.sqrt(np.square(np.broadcast_to(width[0], sample_shape)).sum()))


def _extended_budgets(largest: float, unbounded: float) -> tuple[float, ...]:
    """Return budgets from twice the largest on, doubling, up to no bound at all."""
    if not math.isfinite(unbounded):
        return tuple(largest * 2**power for power in range(1, 6))
    budgets = []
    eps = 2 * largest
    while eps < unbounded:
        budgets.append(eps)
        eps *= 2
    return (*budgets, unbounded) if largest < unbounded else ()
