"""cloakify: harden trained ONNX classifiers, and say honestly what that buys.

>>> import cloakify
>>> result = cloakify.harden("model.onnx", "calib/")  # doctest: +SKIP
>>> result.report.verdict.sentence  # doctest: +SKIP

The names below are the stable interface; everything else may change between versions. They are
imported when first used, so that `import cloakify` costs nothing.
"""

from __future__ import annotations

from importlib import import_module

from cloakify.telemetry import switch_off_telemetry
from cloakify.version import __version__

# Whatever is imported of cloakify, this comes first.
switch_off_telemetry()

# The name is what type checkers go by. The command imports this before it can answer a signal, and
# `typing` alone would take as long as the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
    from cloakify.workflows.attack import AttackResult, attack
    from cloakify.workflows.evaluate import EvaluateResult, evaluate
    from cloakify.workflows.harden import HardenResult, harden
    from cloakify.workflows.inspect import Inspection, inspect
    from cloakify.workflows.verify import Verification, verify

_HOMES = {
    "AttackResult": "workflows.attack",
    "AttackSetting": "settings",
    "EvaluateResult": "workflows.evaluate",
    "EvaluateSetting": "settings",
    "HardenResult": "workflows.harden",
    "HardenSetting": "settings",
    "Inspection": "workflows.inspect",
    "Verification": "workflows.verify",
    "attack": "workflows.attack",
    "evaluate": "workflows.evaluate",
    "harden": "workflows.harden",
    "inspect": "workflows.inspect",
    "verify": "workflows.verify",
}

__all__ = [
    "AttackResult",
    "AttackSetting",
    "EvaluateResult",
    "EvaluateSetting",
    "HardenResult",
    "HardenSetting",
    "Inspection",
    "Verification",
    "__version__",
    "attack",
    "evaluate",
    "harden",
    "inspect",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cloakify' has no attribute {name!r}")
    return getattr(import_module(f"cloakify.{_HOMES[name]}"), name)
