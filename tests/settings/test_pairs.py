"""Which options can't go together: every pair of them is tried, and refused as the table says.

What is refused here is refused before anything is opened. An option that is added is tried with all
others; where it contradicts one, or has no effect beside it, the table says so.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from cloakify.errors import UsageError
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.settings.settings import Settings

# One value of each option that is not its default; several where what they exclude differs.
VALUES: dict[str, tuple[Any, ...]] = {
    "attack": ("mi-fgsm",),
    "emit": ("fold",),
    "gates": ("channel", "position"),
    "task": ("single", "binary"),
    "threshold": (0.4,),
    "eps": (0.01,),
    "norm": ("l2",),
    "method": ("tuned",),
    "score": ("margin",),
    "rounds": (1, 2),
    "mask_ratio": (0.1,),
    "max_accuracy_drop": (0.05,),
    "shifts": (False,),
    "tune_layers": ("last",),
    "tune_state": ("state.npz",),
    "effort": ("quick",),
    "time_budget": ("10m",),
    "evaluation_attack": ("apgd-t",),
    "precision": (2.5,),
    "require_gain": (0.02,),
    "device": ("cpu", "cuda", "openvino"),
    "labels": ("model",),
    "classes": ("a,b",),
    "encoding": ("cp1252",),
    "preset": ("imagenet",),
    "scale": ("255",),
    "mean": ("0.5",),
    "std": ("0.5",),
    "box": (None,),
    "resize": ("pad", "refuse"),
    "crop_pct": (0.9,),
    "interpolation": ("bicubic",),
    "channels": ("bgr",),
    "engine": ("ray",),
    "ray_address": ("auto",),
    "gpus_per_worker": (0.5,),
    "resume": ("folder",),
    "shard": ("1/2",),
    "head": ("node",),
    "output_name": ("out",),
    "attack_input": ("in",),
    "step_size": (0.01,),
}
TUNED = {"emit", "gates", "shifts", "tune_layers", "tune_steps", "binary", "tune_state"}
MASKED = {"score", "rounds", "mask_ratio"}
RAY = {"ray_address", "workers", "cpus_per_worker", "gpus_per_worker"}
# Pairs that can't go together, with what is said.
EXCLUDED = {
    frozenset({("gates", "position"), ("emit", "fold")}): "can't be folded",
    frozenset({("mask_ratio", 0.1), ("max_accuracy_drop", 0.05)}): "--max-accuracy-drop",
    frozenset({("mask_ratio", 0.1), ("write_anyway", True)}): "written whatever its verdict",
    frozenset({("precision", 2.5), ("report_limit", 7)}): "which --report-limit gives",
    frozenset({("labels", "model"), ("accept_accuracy", True)}): "labels that the data give",
    frozenset({("rounds", 2), ("score", "margin")}): "--rounds is for --score auto",
    frozenset({("task", "single"), ("threshold", 0.4)}): "not for --task single",
    frozenset({("tf32", True), ("device", "cpu")}): "--tf32 is for an NVIDIA GPU",
    frozenset({("tf32", True), ("device", "openvino")}): "--tf32 is for an NVIDIA GPU",
    frozenset({("resize_to", 7), ("crop_pct", 0.9)}): "say the same thing",
    frozenset({("resize", "refuse"), ("resize_to", 7)}): "--resize refuse",
    frozenset({("resize", "refuse"), ("crop_pct", 0.9)}): "--resize refuse",
    frozenset({("resize", "refuse"), ("interpolation", "bicubic")}): "--resize refuse",
    frozenset({("time_budget", "10m"), ("resume", "folder")}): "give one of them",
}


def values(settings: type[Settings]) -> list[tuple[str, Any]]:
    """Return every option of a verb with values other than its default."""
    found = []
    for name, (_, declared) in settings.options().items():
        # Flags, and counts.
        plain = (not declared.default,) if isinstance(declared.default, bool) else (7,)
        found += [(name, value) for value in VALUES.get(name, plain)]
    return found


def refused(settings: type[Settings], given: dict[str, Any]) -> str | None:
    try:
        settings(**given)
    except UsageError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


def expected(settings: type[Settings], pair: tuple[tuple[str, Any], ...]) -> bool:
    """Tell whether a pair is to be refused."""
    names = {name for name, _ in pair}
    method = dict(pair).get("method", "deepcloak")
    if names & TUNED and method != "tuned":
        return True
    if names & MASKED and method == "tuned":
        return True
    if names & RAY and ("engine", "ray") not in pair:
        return True
    if "shard" in names and ("resume" not in names or "method" in names):
        return True
    return frozenset(pair) in EXCLUDED


@pytest.mark.parametrize("settings", [HardenSetting, EvaluateSetting, AttackSetting])
def test_every_pair(settings: type[Settings]) -> None:
    wrong = [
        (pair, said)
        for pair in combinations(values(settings), 2)
        if pair[0][0] != pair[1][0]
        and ((said := refused(settings, dict(pair))) is not None) != expected(settings, pair)
    ]
    assert wrong == []


@pytest.mark.parametrize("pair", EXCLUDED, ids=lambda pair: "-".join(sorted(dict(pair))))
def test_a_pair_is_refused_by_what_it_is(pair: frozenset[tuple[str, Any]]) -> None:
    given = dict(pair)
    if given.keys() & TUNED:
        given["method"] = "tuned"
    said = refused(HardenSetting, given)
    assert said is not None
    assert EXCLUDED[pair] in said
    # Either of them goes by itself.
    for name in pair:
        own = dict([name])
        if own.keys() & TUNED:
            own["method"] = "tuned"
        assert refused(HardenSetting, own) is None


@pytest.mark.parametrize("device", ["cpu", "openvino", "cuda", "auto"])
def test_gpus_are_for_devices_that_use_them(device: str) -> None:
    given = {"engine": "ray", "device": device}
    said = refused(HardenSetting, {**given, "gpus_per_worker": 0.5})
    assert (said is not None) == (device in ("cpu", "openvino"))
    assert refused(HardenSetting, {**given, "gpus_per_worker": 0.0}) is None
