"""Calibrate: attack the fit split and learn what the attack does to the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Attack, Target
from cloakify.attacks.pairs import Pairs, attacked_pairs
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.masking.captured import Captured, chosen_for_capture, pooled
from cloakify.masking.linear_head import LinearHead, at_answer, by_feature, read_head
from cloakify.masking.statistics import FeatureStatistics
from cloakify.numeric.arrays import Array, Indices


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
    """

    statistics: FeatureStatistics
    head: LinearHead
    captured: Captured
    kept: Indices


def calibrate(
    experiment: Experiment, target: Target, attack: Attack, fit: Indices, progress: Progress
) -> Calibration:
    """Attack the fit split, once, and sum up what that does to each feature.

    Raises
    ------
    DataError
        The model hardly knows the clean samples: wrong preprocessing or label order.
    """
    head = experiment.classifier.head
    kept = chosen_for_capture(fit, head.num_features, experiment.setting.run.seed)
    statistics = FeatureStatistics.empty(head.num_features)
    linear: LinearHead | None = None
    progress("calibrating", 0, len(fit))
    parts: list[tuple[Array, Array, Indices]] = []
    for pairs in attacked_pairs(target, attack, experiment.threat, experiment.dataset, fit):
        if linear is None:
            linear = read_head(
                experiment.classifier.model, head, pairs.clean_features, experiment.device.host
            )
            linear = linear.of_classes(experiment.classifier.scores)
        clean, attacked = features_of(pairs, experiment, linear)
        statistics = statistics.merge(
            FeatureStatistics.of_pairs(
                clean, attacked, pairs.clean_logits, pairs.attacked_logits, pairs.y, linear.weight
            )
        )
        keep = np.isin(pairs.index, kept)
        parts.append((pooled(clean)[keep], pooled(attacked)[keep], pairs.y[keep]))
        progress("calibrating", statistics.count, len(fit))
    assert linear is not None, "a split is never empty"
    clean, attacked = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    y = np.concatenate([part[2] for part in parts])
    return Calibration(statistics, linear, Captured(clean, attacked, y, y), kept)


def features_of(
    pairs: Pairs, experiment: Experiment, linear: LinearHead, mask: Array | None = None
) -> tuple[Array, Array]:
    """Return clean and attacked features as [n, D] or [n, P, D].

    Where the logits are read from one of P positions, its features alone are returned.

    Parameters
    ----------
    mask
        The mask [D] that the model had.
    """
    head = experiment.classifier.head
    clean, attacked = (
        by_feature(side, head) for side in (pairs.clean_features, pairs.attacked_features)
    )
    if clean.ndim == 2:
        return clean, attacked
    places = at_answer(clean, pairs.clean_logits, linear, mask)
    if places is None:
        return clean, attacked
    rows = np.arange(len(clean))
    return clean[rows, places], attacked[rows, places]
