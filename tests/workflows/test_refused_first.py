"""What makes no sense is refused before a file is opened, let alone attacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloakify.errors import ModelError, UsageError
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden


@pytest.mark.parametrize(
    "options",
    [{"attack": "magic"}, {"attack": "square", "step_size": 0.1}, {"attack": "fgsm", "steps": 2}],
)
def test_attacks_are_known_before_anything_is_opened(options: dict[str, object]) -> None:
    missing = Path("no.onnx"), Path("no.npz")
    with pytest.raises(UsageError, match="--attack"):
        harden(*missing, setting=HardenSetting(**options))
    with pytest.raises(UsageError, match="--attack"):
        attack(*missing, Path("a.npz"), AttackSetting(**options))


@pytest.mark.parametrize("judge", ["apgd", "apgd-dlr", "apgd-t"])
@pytest.mark.parametrize("method", ["deepcloak", "tuned"])
def test_an_attack_that_would_not_judge_is_refused(judge: str, method: str) -> None:
    """Where the calibration does without a gradient Square judges, whatever was asked for."""
    setting = HardenSetting(attack="square", evaluation_attack=judge, method=method)
    with pytest.raises(UsageError, match=f"--evaluation-attack {judge} follows the gradient"):
        harden("no.onnx", "no.npz", setting=setting)


@pytest.mark.parametrize("attacks", ["fgsm", "square", "fgsm,square"])
def test_steps_that_no_attack_takes_are_refused(attacks: str) -> None:
    with pytest.raises(UsageError, match=f"--attack {attacks} has no --steps"):
        evaluate("no.onnx", "no.npz", EvaluateSetting(attack=attacks, steps=7))
    for taking in (f"{attacks},pgd", f"autoattack,{attacks.split(',')[0]}".removesuffix(",square")):
        with pytest.raises(ModelError, match=r"no\.onnx"):
            evaluate("no.onnx", "no.npz", EvaluateSetting(attack=taking, steps=7))


@pytest.mark.parametrize(
    "options", [{"attack": "apgd,magic"}, {"attack": "apgd,apgd"}, {"eps": (0.1, 0.1)}]
)
def test_plans_are_known_before_anything_is_opened(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"--attack|--eps"):
        evaluate("no.onnx", "no.npz", EvaluateSetting(**options))
