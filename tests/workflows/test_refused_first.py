"""What makes no sense is refused before a file is opened, let alone attacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloakify.errors import UsageError
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


@pytest.mark.parametrize(
    "options", [{"attack": "apgd,magic"}, {"attack": "apgd,apgd"}, {"eps": (0.1, 0.1)}]
)
def test_plans_are_known_before_anything_is_opened(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"--attack|--eps"):
        evaluate("no.onnx", "no.npz", EvaluateSetting(**options))
