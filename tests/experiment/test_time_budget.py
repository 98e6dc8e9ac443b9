"""The largest effort that a time budget allows is taken, and told as if it had been asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import UsageError
from cloakify.experiment.time_budget import FILLED, LEVELS, within_time
from cloakify.settings import EvaluateSetting, HardenSetting
from cloakify.settings.option_types import seconds_of
from cloakify.workflows import evaluate as workflow
from cloakify.workflows.evaluate import evaluate


@given(
    st.sampled_from(LEVELS),
    st.lists(st.floats(0.1, 1e4), min_size=3, max_size=3),
    st.floats(0, 100),
    st.integers(1, 500),
)
def test_the_largest_effort_that_fits(
    asked: str, costs: list[float], spent: float, minutes: int
) -> None:
    cost = dict(zip(LEVELS, costs, strict=True))
    allowed = LEVELS[LEVELS.index(asked) :]
    fitting = [level for level in allowed if cost[level] <= FILLED * (60 * minutes - spent)]
    setting = EvaluateSetting(effort=asked, time_budget=f"{minutes}m")

    def forecast(tried: EvaluateSetting) -> float:
        return cost[tried.evaluation.effort]

    if not fitting:
        with pytest.raises(UsageError, match="--limit"):
            within_time(setting, spent, forecast)
        return
    assert within_time(setting, spent, forecast).evaluation.effort == fitting[0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2h30m", 9000), ("1h0m5s", 3605), ("1m30s", 90)],
)
def test_durations(text: str, seconds: float) -> None:
    assert HardenSetting(time_budget=text).evaluation.time_budget == text
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["10", "0m", "0.0s", "-5m", "m", "5 m", "5d", "inf", "", "30m2h", "2h30", "0h0m"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--time-budget takes a number above 0 with s, m or h"):
        HardenSetting(time_budget=text)


def test_what_contradicts_is_refused() -> None:
    with pytest.raises(UsageError, match="--resume"):
        EvaluateSetting(time_budget="1h", resume=Path("kept"))


def test_a_run_in_time_is_the_run_that_its_report_repeats(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(samples / "test.npz") as file:
        np.savez(tmp_path / "few.npz", x=file["x"][:20], y=file["y"][:20])
    model, data = samples / "fashion_pooled.onnx", tmp_path / "few.npz"
    seen = workflow.outlook_of_plan
    slow = 1e4

    def forecast(plan, *rest):  # type: ignore[no-untyped-def]
        outlook = seen(plan, *rest)
        return type(outlook)(outlook.task, slow if plan.attacks[0].steps > 20 else 1, outlook.pace)

    monkeypatch.setattr(workflow, "outlook_of_plan", forecast)
    budgeted = evaluate(model, data, EvaluateSetting(device="cpu", time_budget="1h")).report
    quick = evaluate(model, data, EvaluateSetting(device="cpu", effort="quick")).report
    assert budgeted.command == quick.command
    assert budgeted.models == quick.models
