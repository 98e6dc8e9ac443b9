"""How much work goes into a choice and into its figures: `--effort`."""

from __future__ import annotations

from dataclasses import dataclass

from cloakify.numeric.intervals import samples_for
from cloakify.settings import EvaluateSetting, HardenSetting


@dataclass(frozen=True)
class Effort:
    """What an effort stands for, where an option does not say otherwise.

    Attributes
    ----------
    steps, l2_steps
        Of the attack that judges a hardened model; in l2, where none is named.
    onward
        How many of them drive a sample that is to be tried on another model past the border; all
        that are left if ``None``.
    fitted, selected
        How many samples of the fit and the select split a mask is made and chosen with at most.
    compared
        How many of the latter masks are attacked on.
    rounds
        How often rankings are made, from the second time on knowing attacks on the best mask.
    comparing_steps, comparing_queries
        Of the attacks that masks are compared by, with a gradient and without.
    probed
        On how many samples outputs and gradients are looked at, at most.
    checked, checking_queries
        On how many samples that stand the gradient-free check is run at most, and how far.
    tuning_steps
        Of gates' optimiser, where these are tuned; of all sets of samples together.
    half_width
        How far an accuracy's 95 % interval may reach to either side: it says how many samples are
        reported on, as far as there are so many.
    """

    steps: int
    l2_steps: int
    onward: int | None
    fitted: int | None
    selected: int | None
    compared: int
    rounds: int
    comparing_steps: int
    comparing_queries: int
    probed: int | None
    checked: int
    checking_queries: int
    tuning_steps: int
    half_width: float


# Driven on for 5 steps, samples fool the source with a random mask of 5 or 20 % as often as driven
# on to the end, to within 1.6 points on three sample models at 2 and 4/255, for 3 to within 2.6.
EFFORTS = {
    "quick": Effort(
        steps=10,
        l2_steps=10,
        onward=3,
        fitted=200,
        selected=128,
        compared=64,
        rounds=1,
        comparing_steps=4,
        comparing_queries=10,
        probed=64,
        checked=32,
        checking_queries=20,
        tuning_steps=430,
        half_width=0.1,
    ),
    "standard": Effort(
        steps=20,
        l2_steps=60,
        onward=5,
        fitted=None,
        selected=None,
        compared=800,
        rounds=2,
        comparing_steps=4,
        comparing_queries=10,
        probed=256,
        checked=48,
        checking_queries=50,
        tuning_steps=1300,
        half_width=0.03,
    ),
    "thorough": Effort(
        steps=100,
        l2_steps=100,
        onward=None,
        fitted=None,
        selected=None,
        compared=1600,
        rounds=2,
        comparing_steps=10,
        comparing_queries=100,
        probed=None,
        checked=512,
        checking_queries=1000,
        tuning_steps=2600,
        half_width=0.02,
    ),
}


@dataclass(frozen=True)
class Thoroughness:
    """What an effort stands for where models are evaluated.

    Attributes
    ----------
    steps
        Of Auto-PGD; ``None`` for its own number.
    wide_runs
        How often Auto-PGD goes by way of larger balls, where it does.
    targets, targeted_steps
        How many classes the targeted one tries, and its steps for each.
    by_slope
        Whether it ranks classes by the distance of their border rather than by logits.
    onward
        As in :class:`Effort`.
    extending_steps
        Of the attack that continues the curve beyond the budgets.
    doubled_on
        On how many samples twice the steps are tried at most.
    checked, checking_queries
        On how many samples the gradient-free check is run at most, and how far.
    searched, searching_targets, searching_steps
        For how many samples the nearest misclassified point is searched for at most, among how many
        classes, and with how many steps for each.
    """

    steps: int | None
    wide_runs: int
    targets: int
    targeted_steps: int | None
    by_slope: bool
    onward: int | None
    extending_steps: int | None
    doubled_on: int | None
    checked: int | None
    checking_queries: int
    searched: int
    searching_targets: int
    searching_steps: int


# The search for the nearest point: on the sample models, the adversarially trained one too, three
# classes find the same median as nine; with 20 steps it comes out a third too large. The 95 %
# interval of a median of 500 goes from their 46th to their 54th percentile, of 48 from the 36th to
# the 64th. 1,000 queries are a fifth of Square's own. Auto-PGD takes its own 100 steps, as halving
# its steps too early costs more than steps save: of 400 images of four sample models, 30 steps and
# 3 × 25 targeted ones left 0.5 to 3.5 points more standing than 100 and 9 × 100 did, 60 and 3 × 50
# up to 2.3, 100 and 3 × 40 none to 0.5, 100 and 2 × 50 or 1 × 100 up to 1.0 and 1.8.
THOROUGHNESS = {
    "quick": Thoroughness(
        steps=20,
        wide_runs=1,
        targets=1,
        targeted_steps=12,
        by_slope=True,
        onward=3,
        extending_steps=4,
        doubled_on=16,
        checked=64,
        checking_queries=25,
        searched=16,
        searching_targets=1,
        searching_steps=30,
    ),
    "standard": Thoroughness(
        steps=None,
        wide_runs=2,
        targets=3,
        targeted_steps=36,
        by_slope=True,
        onward=5,
        extending_steps=12,
        doubled_on=32,
        checked=128,
        checking_queries=100,
        searched=48,
        searching_targets=2,
        searching_steps=60,
    ),
    "thorough": Thoroughness(
        steps=None,
        wide_runs=4,
        targets=9,
        targeted_steps=None,
        by_slope=False,
        onward=None,
        extending_steps=None,
        doubled_on=None,
        checked=None,
        checking_queries=1000,
        searched=500,
        searching_targets=3,
        searching_steps=60,
    ),
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


def thoroughness_of(setting: EvaluateSetting) -> Thoroughness:
    """Return what the effort that was asked for stands for in an evaluation."""
    return THOROUGHNESS[setting.evaluation.effort]
