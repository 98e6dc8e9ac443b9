"""What a user may not set, from Python: each is refused before any work, by one kind of error."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloakify.errors import UsageError
from cloakify.experiment.settings import AttackSetting, EvaluateSetting, HardenSetting

WRONG: list[tuple[type, dict[str, object]]] = [
    (AttackSetting, {"seed": -1}),
    (AttackSetting, {"seed": 0.5}),
    (AttackSetting, {"norm": "l7"}),
    (AttackSetting, {"labels": "foo"}),
    (AttackSetting, {"resize": "foo"}),
    (AttackSetting, {"batch_size": 0}),
    (AttackSetting, {"limit": 0}),
    (AttackSetting, {"steps": 0}),
    (AttackSetting, {"mean": 0.5}),
    (AttackSetting, {"std": (0.5, 0.5, 0.5)}),
    (AttackSetting, {"scale": 1}),
    (AttackSetting, {"eps": "8/255"}),
    (EvaluateSetting, {"queries": 0}),
    (HardenSetting, {"method": "tunde"}),
    (HardenSetting, {"method": "tuned", "emit": "foo"}),
    (HardenSetting, {"method": "tuned", "gates": "foo"}),
    (HardenSetting, {"method": "tuned", "score": "margin"}),
    (HardenSetting, {"binary": True}),
    (HardenSetting, {"evaluation_steps": 0}),
    (HardenSetting, {"report_limit": 0}),
    (HardenSetting, {"rounds": 0}),
]


@pytest.mark.parametrize(("kind", "values"), WRONG, ids=str)
def test_a_value_without_a_use_is_named(kind: type, values: dict[str, object]) -> None:
    name = list(values)[-1]
    with pytest.raises(UsageError, match=f"{name}|--{name.replace('_', '-')}"):
        kind(**values)


def test_a_path_may_be_text() -> None:
    assert HardenSetting(method="tuned", tune_state="s.npz").tune_state == Path("s.npz")  # type: ignore[arg-type]
