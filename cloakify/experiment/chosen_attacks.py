"""The attacks that a user's settings choose."""

from __future__ import annotations

from cloakify.attacks import Attack
from cloakify.attacks.apgd_multi import untargeted
from cloakify.attacks.registry import make_attack
from cloakify.errors import UsageError
from cloakify.experiment.effort import effort_of
from cloakify.settings import AttackSetting, HardenSetting

# Queries of Square for a step of Auto-PGD: 5,000 and 100 make AutoAttack's standard settings.
QUERIES_A_STEP = 50


def chosen_attack(setting: AttackSetting, *, stop_early: bool = True) -> Attack:
    """Return the attack that was asked for; in hardening, that of the calibration.

    Parameters
    ----------
    stop_early
        Without it every sample goes as far as the attack goes.

    Raises
    ------
    UsageError
        There is no such attack, or it has not the settings that are given.
    """
    return make_attack(
        setting.attack.name,
        steps=setting.attack.steps,
        step_size=setting.attack.step_size,
        restarts=setting.attack.restarts,
        stop_early=stop_early,
        seed=setting.run.seed,
    )


def follows_gradient(setting: AttackSetting) -> bool:
    """Tell whether the attack that was asked for follows the gradient."""
    return chosen_attack(setting).gradient == "white-box"


def calibration_attack(setting: HardenSetting) -> Attack:
    """Return the attack that calibrates: every sample goes as far as it goes.

    Those only just over the border would hardly move the features.

    Raises
    ------
    UsageError
        As :func:`chosen_attack`; or an attack is asked for that would judge by a gradient which
        this one does without.
    """
    attack = chosen_attack(setting, stop_early=False)
    if attack.gradient != "white-box" and setting.evaluation.attack != "auto":
        raise UsageError(
            f"--evaluation-attack {setting.evaluation.attack} follows the gradient, and Square "
            f"judges where --attack {setting.attack.name} does without: leave one of them out"
        )
    return attack


def straight_attack(setting: HardenSetting) -> Attack:
    """Return the attack that judges what hides its slopes, beside :func:`evaluation_attack`."""
    steps = setting.evaluation.steps or effort_of(setting).steps
    return make_attack("apgd-bpda", steps=steps, seed=setting.run.seed)


def evaluation_attack(
    setting: HardenSetting, *, stop_early: bool, steps: int | None = None
) -> Attack:
    """Return the attack that judges a hardened model: Auto-PGD, in l2 by way of larger balls.

    The latter takes more steps than an effort has otherwise: fewer say little in l2 of models that
    were trained in linf.

    Where the calibration attack needs no gradient the model may have none, and Square takes its
    place, with as many queries for each step as an iteration and its bookkeeping would cost.

    Parameters
    ----------
    stop_early
        As in :class:`~cloakify.attacks.Apgd`.
    steps
        The setting's, or those of its effort, when left out.
    """
    effort, norm = effort_of(setting), setting.threat.norm
    name: str = setting.evaluation.attack
    given = steps or setting.evaluation.steps
    steps = given or effort.steps
    if not follows_gradient(setting):
        return make_attack("square", steps=QUERIES_A_STEP * steps, seed=setting.run.seed)
    if name == "auto":
        steps = given or (effort.l2_steps if norm == "l2" else effort.steps)
        name = untargeted(norm, steps)
    return make_attack(name, steps=steps, stop_early=stop_early, seed=setting.run.seed)


def label_attack(setting: HardenSetting) -> Attack:
    """Return what drives all of a sample's labels to their highest loss at once."""
    return evaluation_attack(setting.replace(evaluation_attack="apgd"), stop_early=False)
