"""How gates are tuned on so many samples, and which of them on which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cloakify.data import Splits
from cloakify.data.splits import some_of
from cloakify.experiment.effort import effort_of
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.numeric.arrays import Labels
from cloakify.settings import HardenSetting

# Samples in the fit split; below, tuning has need of those of the select split as well, and many
# gates would learn them by heart.
FEW_SAMPLES = 2000

# More mixtures of a sample than are seen often, and few enough to ask the source for them.
MIXTURES = 16

# Binary gates move only by crossing a threshold.
BINARY_RATE = 0.05


def folds_of(
    splits: Splits, labels: Labels | None, seed: int
) -> tuple[tuple[Labels, ...], tuple[Labels, ...]]:
    """Return what is tuned on, and what the last ones of these are held out from.

    Few samples are cross-fitted: all but those reported on are tuned on together, and in two
    halves, each tried on the other.
    """
    if len(splits.fit) >= FEW_SAMPLES:
        return (splits.fit,), (splits.select,)
    together = np.union1d(splits.fit, splits.select)
    half = some_of(together, labels, len(together) // 2, seed)
    rest = np.setdiff1d(together, half)
    return (together, half, rest), (rest, half)


def mixes_samples(setting: HardenSetting, samples: int) -> bool:
    """Tell whether gates are tuned on mixtures, with so many samples in the fit split.

    Gates of positions are so many that they would fit a thousand samples by heart; of thousands,
    mixtures tell nothing new and cost some accuracy. Gates of channels are too few for either.
    """
    return setting.tuning.gates == "position" and samples < FEW_SAMPLES


def make_plan(setting: HardenSetting, samples: int) -> TuningPlan:
    """Return how to tune on so many samples."""
    plan = TuningPlan(
        steps=setting.tuning.steps or effort_of(setting).tuning_steps,
        max_accuracy_drop=setting.masking.max_accuracy_drop,
        mixtures=MIXTURES if mixes_samples(setting, samples) else 0,
        seed=setting.run.seed,
    )
    return replace(plan, kind="binary", rate=BINARY_RATE) if setting.tuning.binary else plan
