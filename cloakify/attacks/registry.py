"""Attacks by name."""

from __future__ import annotations

from cloakify.attacks.base import Attack
from cloakify.attacks.fgsm import Fgsm
from cloakify.attacks.pgd import Pgd
from cloakify.errors import UsageError

NAMES = ("fgsm", "pgd")


def make_attack(
    name: str, *, steps: int | None = None, step_size: float | None = None, seed: int = 0
) -> Attack:
    """Return the attack of that name with its settings.

    Raises
    ------
    UsageError
        No such attack, or a setting that it has not.
    """
    if name not in NAMES:
        raise UsageError(f"--attack takes {', '.join(NAMES)}, not {name!r}")
    if name == "fgsm":
        if steps is not None or step_size is not None:
            raise UsageError("--attack fgsm takes one full step: no --steps, no --step-size")
        return Fgsm()
    return Pgd(steps=10 if steps is None else steps, step_size=step_size, seed=seed)
