"""As much work as fits into the time that a user gives: `--time-budget`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cloakify.errors import UsageError
from cloakify.experiment.effort import EFFORTS
from cloakify.settings import EvaluateSetting, HardenSetting
from cloakify.settings.option_types import seconds_of

Setting = TypeVar("Setting", HardenSetting, EvaluateSetting)

# From the most work to the least.
LEVELS = tuple(reversed(EFFORTS))

# Of the time that is left, how much a forecast may fill: it may be off by a third.
FILLED = 0.75


def within_time(setting: Setting, spent: float, forecast: Callable[[Setting], float]) -> Setting:
    """Return the setting with the largest effort, up to its own, that is done in time.

    Parameters
    ----------
    spent
        Seconds since the run began.
    forecast
        How many seconds a run with a setting takes from now on.

    Raises
    ------
    UsageError
        Not even the smallest effort is.
    """
    budget = setting.evaluation.time_budget
    if budget is None:
        return setting
    needed = 0.0
    for level in LEVELS[LEVELS.index(setting.evaluation.effort) :]:
        chosen = setting.replace(effort=level)
        needed = forecast(chosen)
        if needed <= FILLED * (seconds_of(budget) - spent):
            return chosen
    raise UsageError(
        f"--time-budget {budget}: after {spent:.0f} s, --effort quick would take about "
        f"{needed / FILLED:.0f} s more on this machine; give more time, or fewer samples (--limit)"
    )
