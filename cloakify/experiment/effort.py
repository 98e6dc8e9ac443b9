"""How much work goes into a choice and into its figures: `--effort`."""

from __future__ import annotations

from dataclasses import dataclass

from cloakify.numeric.intervals import samples_for
from cloakify.settings import HardenSetting


@dataclass(frozen=True)
class Effort:
    """What an effort stands for, where an option does not say otherwise.

    Attributes
    ----------
    steps
        Of the attack that judges a hardened model.
    rounds
        How often rankings are made, from the second time on knowing attacks on the best mask.
    comparing_steps, comparing_queries
        Of the attacks that masks are compared by, with a gradient and without.
    checked, checking_queries
        On how many samples that stand the gradient-free check is run at most, and how far.
    half_width
        How far an accuracy's 95 % interval may reach to either side: it says how many samples are
        reported on, as far as there are so many.
    """

    steps: int
    rounds: int
    comparing_steps: int
    comparing_queries: int
    checked: int
    checking_queries: int
    half_width: float


EFFORTS = {
    "quick": Effort(10, 1, 5, 25, 64, 50, 0.05),
    "standard": Effort(40, 2, 10, 50, 128, 100, 0.03),
    "thorough": Effort(100, 2, 20, 100, 512, 1000, 0.02),
}


def effort_of(setting: HardenSetting) -> Effort:
    """Return what the effort that was asked for stands for."""
    return EFFORTS[setting.evaluation.effort]


def samples_reported(setting: HardenSetting) -> int:
    """Return on how many samples to report at most: as many as the precision asked for needs."""
    if setting.evaluation.report_limit is not None:
        return setting.evaluation.report_limit
    points = setting.evaluation.precision
    return samples_for(effort_of(setting).half_width if points is None else points / 100)
