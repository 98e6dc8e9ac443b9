"""Attacks by name: what each takes, and what is said about anything else."""

from __future__ import annotations

import pytest

from cloakify.attacks.registry import NAMES, make_attack
from cloakify.errors import UsageError


@pytest.mark.parametrize("name", NAMES)
def test_every_name_makes_its_attack(name):
    attack = make_attack(name)
    assert attack.name == name
    assert attack.steps >= 1
    assert attack.gradient == ("gradient-free" if name == "square" else "white-box")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_is_the_attacks_default(name):
    attack = make_attack(name)
    assert vars(attack) == vars(type(attack)())


def test_autoattack_says_the_steps_of_its_gradient_attacks():
    attack = make_attack("autoattack")
    following = {each.steps for each in attack.attacks if each.gradient == "white-box"}
    assert following == {attack.steps}


def test_settings_reach_the_attack():
    assert make_attack("pgd", steps=7, step_size=0.1, restarts=3, seed=4).step_size == 0.1
    assert make_attack("square", steps=50).steps == 50
    assert make_attack("apgd", restarts=2, stop_early=False).stop_early is False


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cw", {}, "--attack takes fgsm, pgd, .* not 'cw'"),
        ("fgsm", {"steps": 3}, "--attack fgsm has no --steps"),
        ("apgd", {"step_size": 0.1}, "has no --step-size: it takes --steps and --restarts"),
        ("square", {"restarts": 2}, "has no --restarts: it takes --steps"),
        ("autoattack", {"steps": 10}, "has no --steps"),
        ("pgd", {"steps": 0}, "--steps must be at least 1, not 0"),
        ("pgd", {"restarts": -1}, "--restarts must be at least 1"),
        ("pgd", {"step_size": 0.0}, "--step-size must be above 0"),
    ],
)
def test_settings_that_do_not_apply(name, settings, message):
    with pytest.raises(UsageError, match=message):
        make_attack(name, **settings)
