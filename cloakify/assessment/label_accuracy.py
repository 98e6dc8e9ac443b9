"""Independent labels under attack: all of them at once, not only the first that falls.

An exact match is lost with one label, and an attack that is after it stops there. How labels fare
one by one is told by samples driven to the highest sum of their losses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cloakify.attacks import Attack, Target, ThreatModel
from cloakify.data import Dataset, Splits
from cloakify.evaluation.label_figures import label_figures
from cloakify.experiment.experiment import Experiment
from cloakify.numeric.arrays import Indices, floats
from cloakify.report.records import HardenLabels, LabelAccuracy


def label_accuracy(
    target: Target,
    attack: Attack,
    threat: ThreatModel,
    dataset: Dataset,
    indices: Indices | None,
    progress: Callable[[int], None],
) -> LabelAccuracy:
    """Attack samples with independent labels, and measure how each fares.

    Parameters
    ----------
    attack
        One that drives samples to their highest loss.
    indices
        Which samples; all of them when left out.
    progress
        Called with the number of samples done.
    """
    clean, attacked, labels = [], [], []
    done = 0
    for batch in dataset.batches(indices, target.span):
        x = floats(batch.x)
        moved = attack.run(target, x, batch.y, batch.index, threat)
        clean.append(target.logits(x))
        attacked.append(target.logits(moved))
        labels.append(batch.y)
        done += len(x)
        progress(done)
    y = np.concatenate(labels)
    figures = (label_figures(np.concatenate(logits), y) for logits in (clean, attacked))
    return LabelAccuracy(attack.name, threat.eps, *figures)


def harden_labels(
    source: Target, hardened: Target, attack: Attack, experiment: Experiment, splits: Splits
) -> HardenLabels | None:
    """Measure how labels fare on source and hardened model; ``None`` where samples have classes."""
    if not source.independent:
        return None
    measured = (
        label_accuracy(
            target,
            attack,
            experiment.threat,
            experiment.dataset,
            splits.report,
            lambda done: None,
        )
        for target in (source, hardened)
    )
    return HardenLabels(*measured)
