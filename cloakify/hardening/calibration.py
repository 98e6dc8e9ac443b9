"""Calibrate: attack the fit split and learn what the attack does to the features."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cloakify.attacks import Attack
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job
from cloakify.errors import DataError
from cloakify.experiment.counting import counted
from cloakify.experiment.experiment import Progress
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.hardening.features import Calibrating
from cloakify.masking.captured import Captured, chosen_for_capture
from cloakify.masking.linear_head import LinearHead
from cloakify.masking.statistics import FeatureStatistics
from cloakify.numeric.arrays import Indices, in_chunks


@dataclass(frozen=True)
class Calibration:
    """What is known of the features after the fit split.

    Attributes
    ----------
    statistics
        Sums over all pairs.
    head
        The head as numbers.
    captured
        Features of some of the samples, those of ``kept``.
    kept
        int64: which samples.
    rank
        Of the features, as the head takes them.
    """

    statistics: FeatureStatistics
    head: LinearHead
    captured: Captured
    kept: Indices
    rank: int


def calibrate(
    subject: Subject, engine: Engine[Subject], attack: Attack, fit: Indices, progress: Progress
) -> Calibration:
    """Attack the fit split, once, and sum up what that does to each feature.

    Raises
    ------
    DataError
        The model hardly knows the clean samples: wrong preprocessing or label order; or what it
        makes of them are no numbers.
    """
    experiment = subject.first
    features = experiment.classifier.head.num_features
    kept = chosen_for_capture(fit, features, experiment.setting.run.seed)
    statistics = FeatureStatistics.empty(features)
    job = Job(Calibrating(attack, kept), in_chunks(fit, subject.targets[SOURCE].span))
    parts: list[Arrays] = []
    for part in engine.map(job, counted(progress, "calibrating", job.work)):
        sums: dict[str, Any] = {
            column.name: part[column.name] for column in fields(FeatureStatistics)
        }
        counts = {name: int(value) for name, value in sums.items() if not value.ndim}
        statistics = statistics.merge(FeatureStatistics(**(sums | counts)))
        parts.append({name: part[name] for name in ("clean", "attacked", "y", "rank")})
    clean, attacked, y = (
        np.concatenate([part[name] for part in parts]) for name in ("clean", "attacked", "y")
    )
    if not len(y):
        raise DataError(
            f"of {len(kept)} samples none has features and logits that are finite numbers, both "
            "clean and attacked: check the preprocessing, and the model's weights"
        )
    rank = int(parts[0]["rank"])
    return Calibration(
        statistics, subject.linear_head(rank), Captured(clean, attacked, y, y), kept, rank
    )
