"""What a user may set, from Python: flat or in groups, and refused before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.errors import UsageError
from cloakify.settings import (
    AttackOptions,
    AttackSetting,
    EvaluateSetting,
    HardenSetting,
    ThreatOptions,
)

WRONG: list[tuple[type, dict[str, object]]] = [
    (AttackSetting, {"seed": -1}),
    (AttackSetting, {"seed": 0.5}),
    (AttackSetting, {"seed": True}),
    (AttackSetting, {"norm": "l7"}),
    (AttackSetting, {"resize": "foo"}),
    (AttackSetting, {"batch_size": 0}),
    (AttackSetting, {"limit": 0}),
    (AttackSetting, {"steps": 0}),
    (AttackSetting, {"mean": 0.5}),
    (AttackSetting, {"std": (0.5, 0.5, 0.5)}),
    (AttackSetting, {"scale": 1}),
    (AttackSetting, {"eps": "8/0"}),
    (AttackSetting, {"eps": 0}),
    (AttackSetting, {"eps": float("nan")}),
    (AttackSetting, {"eps": float("inf")}),
    (AttackSetting, {"box": (1, 0)}),
    (AttackSetting, {"box": (0, 1, 2)}),
    (EvaluateSetting, {"queries": 0}),
    (EvaluateSetting, {"eps": ()}),
    (EvaluateSetting, {"eps": (0.1, -0.1)}),
    (HardenSetting, {"method": "tunde"}),
    (HardenSetting, {"method": "tuned", "emit": "foo"}),
    (HardenSetting, {"method": "tuned", "gates": "foo"}),
    (HardenSetting, {"method": "tuned", "score": "margin"}),
    (HardenSetting, {"method": "tuned", "tune_state": ""}),
    (HardenSetting, {"binary": True}),
    (HardenSetting, {"evaluation_steps": 0}),
    (HardenSetting, {"report_limit": 0}),
    (HardenSetting, {"rounds": 0}),
    (HardenSetting, {"require_gain": 5}),
]


@pytest.mark.parametrize(("kind", "values"), WRONG, ids=str)
def test_a_value_without_a_use_is_named(kind: type, values: dict[str, object]) -> None:
    name = list(values)[-1]
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} ") as caught:
        kind(**values)
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no option 'epsilon'; did you mean 'eps'"):
        HardenSetting(epsilon=0.1)
    with pytest.raises(UsageError, match="AttackSetting has no option 'rounds'"):
        AttackSetting(rounds=1)


def test_flat_and_in_groups() -> None:
    flat = HardenSetting(eps=0.1, norm="l2", seed=3)
    assert flat == HardenSetting(ThreatOptions(eps=0.1, norm="l2"), seed=3)
    assert (flat.threat.eps, flat.threat.norm, flat.run.seed) == (0.1, "l2", 3)
    assert flat != HardenSetting(eps=0.1, norm="l2")
    # A name that is also a group's: the value says which is meant.
    named = AttackSetting(AttackOptions(name="apgd", steps=3), attack="fgsm")
    assert (named.attack.name, named.attack.steps) == ("fgsm", 3)


def test_replace_keeps_what_is_not_named() -> None:
    setting = HardenSetting(eps=0.1, steps=2, attack="pgd").replace(steps=3)
    assert setting == HardenSetting(eps=0.1, steps=3, attack="pgd")
    with pytest.raises(UsageError, match="--emit is for --method tuned"):
        setting.replace(emit="fold")


def test_verbs_differ_in_their_defaults() -> None:
    assert HardenSetting().attack.name == "fgsm"
    assert AttackSetting().attack.name == "pgd"
    assert EvaluateSetting().attack.names == "auto"


def test_values_take_the_form_of_their_type() -> None:
    for state in ("s.npz", Path("s.npz")):
        assert HardenSetting(method="tuned", tune_state=state).tuning.state == Path("s.npz")
    for eps in (np.float32(0.5), np.float64(0.5)):
        assert type(AttackSetting(eps=eps).threat.eps) is float
    assert type(AttackSetting(seed=np.int64(3)).run.seed) is int
    assert AttackSetting(box=[0, 2]).data.box == (0.0, 2.0)
    assert EvaluateSetting(eps=0.1).threat.eps == (0.1,)


def test_settings_are_frozen() -> None:
    setting = HardenSetting()
    with pytest.raises(AttributeError):
        setting.threat = ThreatOptions(eps=1)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        setting.threat.eps = 1  # type: ignore[misc]


def test_labels_of_no_name() -> None:
    with pytest.raises(UsageError, match="--labels takes given, model, a file or a column, not ''"):
        AttackSetting(labels="")
