"""Which samples a model still classifies rightly: vectors that can be paired between models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import Attack, Target, ThreatModel
from cloakify.data import Dataset

Correct = NDArray[np.bool_]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Correctness:
    """Right or wrong, sample by sample, on the same samples for every model compared.

    Attributes
    ----------
    clean
        On the clean samples.
    static
        On samples crafted against the baseline by the calibration attack.
    transfer
        On samples crafted against the baseline by the evaluation attack.
    adaptive
        On samples crafted against the model itself by the evaluation attack; for a model other
        than the baseline also on the transferred ones: an attacker tries both, and an attack that
        fails on the model's own gradients must not be counted as robustness.
    """

    clean: Correct
    static: Correct
    transfer: Correct
    adaptive: Correct


def compare_targets(
    targets: Sequence[Target],
    calibration: Attack,
    evaluation: Attack,
    threat: ThreatModel,
    dataset: Dataset,
    indices: Labels,
    progress: Callable[[int], None],
) -> list[Correctness]:
    """Attack several models on the same samples; the first is the baseline.

    Parameters
    ----------
    indices
        Samples to use: those of the report split.
    progress
        Called with the number of samples done.
    """
    found: list[list[list[Correct]]] = [[[] for _ in range(4)] for _ in targets]
    done = 0
    # Several batches at once, so that attacks which drop fooled samples still fill theirs.
    for batch in dataset.batches(indices, targets[0].batch_size * 4):
        x = batch.x.astype(np.float32, copy=False)
        baseline = targets[0]
        static = calibration.run(baseline, x, batch.y, batch.index, threat)
        transfer = evaluation.run(baseline, x, batch.y, batch.index, threat)
        for place, target in enumerate(targets):
            own = transfer
            transferred = target.correct(transfer, batch.y)
            adaptive = transferred
            if target is not baseline:
                own = evaluation.run(target, x, batch.y, batch.index, threat)
                adaptive = transferred & target.correct(own, batch.y)
            row = (
                target.correct(x, batch.y),
                target.correct(static, batch.y),
                transferred,
                adaptive,
            )
            for column, right in zip(found[place], row, strict=True):
                column.append(right)
        done += len(x)
        progress(done)
    return [Correctness(*(np.concatenate(column) for column in columns)) for columns in found]
