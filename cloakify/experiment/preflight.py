"""Before anything is attacked: does the model answer in numbers, and is its answer its head's?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Target
from cloakify.errors import ModelError
from cloakify.experiment.experiment import Experiment
from cloakify.numeric.arrays import floats

# Clean samples that the model is tried on, taken evenly from all.
TRIED = 256

# Share of them that must be answered otherwise than the head does for the head to be the wrong one.
# Below that the figures still say something, with a warning.
MOST = 0.5

# Logits are small where they are this close to each other: e times as likely at most.
SMALL = 1.0


@dataclass(frozen=True)
class Preflight:
    """What a model did on ``count`` clean samples.

    Attributes
    ----------
    correct
        How many it classifies rightly.
    overruled
        How many get another answer from the whole model than from its head.
    spread
        From the smallest to the largest logit of a sample, the median.
    """

    count: int
    correct: int
    overruled: int
    spread: float

    @property
    def small_logits(self) -> bool:
        """Whether the cross-entropy hardly tells the wrong classes apart.

        Its gradient then leads to all of them at once, and an attack that follows it is weak.
        """
        return self.spread < SMALL


def preflight(experiment: Experiment, target: Target) -> Preflight:
    """Run a target on a few clean samples.

    Raises
    ------
    ModelError
        Its logits are no numbers, or its answers are not its head's.
    """
    path, dataset = experiment.classifier.file.path, experiment.dataset
    count = min(TRIED, len(dataset))
    indices = np.arange(count) * len(dataset) // count
    lost = correct = other = 0
    spread = []
    for batch in dataset.batches(indices, target.span):
        x = floats(batch.x)
        logits, overruled = target.logits_and_overruled(x)
        lost += int(np.isnan(logits).any(axis=1).sum())
        correct += int((logits.argmax(axis=1) == experiment.labels[batch.index]).sum())
        other += int(overruled.sum())
        with np.errstate(invalid="ignore"):
            spread.append(np.ptp(logits, axis=1))
    if lost:
        raise ModelError(
            f"{path}: its logits are no numbers (NaN) on {lost} of {count} clean samples; is a "
            "weight, or the preprocessing, broken?"
        )
    if other > MOST * count:
        raise ModelError(
            f"{path}: on {other} of {count} clean samples it answers with another class than its "
            f"head {experiment.classifier.head.node!r}: what stands behind the head changes the "
            "answer; name another with --head, or export the model with its class scores as output"
        )
    return Preflight(count, correct, other, float(np.median(np.concatenate(spread))))
