"""Attacks by name, with the settings that each takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cloakify.attacks.apgd import Apgd, ApgdBpda, ApgdDlr
from cloakify.attacks.apgd_multi import ApgdMulti
from cloakify.attacks.apgd_t import ApgdT
from cloakify.attacks.base import Attack
from cloakify.attacks.cascade import AutoAttack
from cloakify.attacks.fab import FabT
from cloakify.attacks.fgsm import Fgsm
from cloakify.attacks.mi_fgsm import MiFgsm
from cloakify.attacks.pgd import Pgd
from cloakify.attacks.square import Square
from cloakify.errors import UsageError


@dataclass(frozen=True)
class _Entry:
    """An attack, and the constructor's name of each setting that it takes."""

    kind: type[Attack]
    settings: Mapping[str, str]


_ITERATED = {"steps": "steps", "restarts": "restarts", "stop_early": "stop_early", "seed": "seed"}

_ATTACKS = {
    "fgsm": _Entry(Fgsm, {}),
    "pgd": _Entry(Pgd, {**_ITERATED, "step_size": "step_size"}),
    "mi-fgsm": _Entry(
        MiFgsm, {"steps": "steps", "step_size": "step_size", "stop_early": "stop_early"}
    ),
    "apgd": _Entry(Apgd, _ITERATED),
    "apgd-dlr": _Entry(ApgdDlr, _ITERATED),
    "apgd-multi": _Entry(ApgdMulti, _ITERATED),
    "apgd-t": _Entry(ApgdT, _ITERATED),
    "apgd-bpda": _Entry(ApgdBpda, _ITERATED),
    "square": _Entry(Square, {"steps": "queries", "seed": "seed"}),
    "fab-t": _Entry(FabT, {"steps": "steps", "stop_early": "stop_early"}),
    "autoattack": _Entry(AutoAttack, {"seed": "seed"}),
}

NAMES = tuple(_ATTACKS)

# Settings that a user gives as options; the others are the caller's, and not every attack has them.
_OPTIONS = {"steps": "--steps", "step_size": "--step-size", "restarts": "--restarts"}


def make_attack(
    name: str,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    restarts: int | None = None,
    stop_early: bool = True,
    seed: int = 0,
) -> Attack:
    """Return the attack of that name with its settings; what is left out is the attack's default.

    Parameters
    ----------
    name
        One of :data:`NAMES`.
    steps
        Steps of each start; for ``square`` queries.
    step_size
        In data units.
    restarts
        How often to start.
    stop_early
        Whether samples are returned as soon as they fool the model. Without, they go as far as the
        attack takes them; of no effect on attacks without the setting.
    seed
        Of all randomness.

    Raises
    ------
    UsageError
        No such attack, a setting that it has not, or a value out of range.
    """
    if name not in _ATTACKS:
        raise UsageError(f"--attack takes {', '.join(NAMES)}, not {name!r}")
    entry = _ATTACKS[name]
    for setting, count in (("steps", steps), ("restarts", restarts)):
        if count is not None and count < 1:
            raise UsageError(f"{_OPTIONS[setting]} must be at least 1, not {count}")
    if step_size is not None and not (step_size > 0 and math.isfinite(step_size)):
        raise UsageError(f"--step-size must be above 0, not {step_size:g}")
    given = {"steps": steps, "step_size": step_size, "restarts": restarts}
    given |= {"stop_early": stop_early, "seed": seed}
    for setting, option in _OPTIONS.items():
        if given[setting] is not None and setting not in entry.settings:
            raise UsageError(f"--attack {name} has no {option}{_reason(entry)}")
    return entry.kind(
        **{
            argument: given[setting]
            for setting, argument in entry.settings.items()
            if given[setting] is not None
        }
    )


def _reason(entry: _Entry) -> str:
    taken = [option for setting, option in _OPTIONS.items() if setting in entry.settings]
    return f": it takes {' and '.join(taken)}" if taken else ""
