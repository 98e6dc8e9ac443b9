"""Calibrate: collect features under attack, rank them, and choose how many to mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import Attack, Target
from cloakify.attacks.pairs import Pairs, attacked_pairs
from cloakify.data import check_clean_accuracy
from cloakify.errors import UsageError
from cloakify.masking.curve import MaskCurve
from cloakify.masking.linear import LinearHead, by_feature, read_head
from cloakify.masking.scores import SCORES, rank
from cloakify.masking.selection import MaskChoice, best_size, choose, size_of_ratio
from cloakify.masking.statistics import FeatureStatistics
from cloakify.workflows.setting import HardenSetting
from cloakify.workflows.subject import Progress, Subject

Indices = NDArray[np.int64]


def calibrate(
    subject: Subject, target: Target, attack: Attack, fit: Indices, progress: Progress
) -> tuple[FeatureStatistics, LinearHead]:
    """Attack the fit split and sum up what the attack does to each feature.

    Raises
    ------
    DataError
        The model hardly knows the clean samples: wrong preprocessing or label order.
    """
    head = subject.classifier.head
    statistics = FeatureStatistics.empty(head.num_features)
    linear: LinearHead | None = None
    for pairs in attacked_pairs(target, attack, subject.threat, subject.dataset, fit):
        if linear is None:
            linear = read_head(subject.classifier.model, head, pairs.clean_features)
        clean, attacked = _by_feature(pairs, subject)
        statistics = statistics.merge(
            FeatureStatistics.of_pairs(
                clean, attacked, pairs.clean_logits, pairs.attacked_logits, pairs.y, linear.weight
            )
        )
        progress("calibrating", statistics.count, len(fit))
    assert linear is not None, "a split is never empty"
    check_clean_accuracy(statistics.clean_correct, statistics.count, head.num_classes)
    return statistics, linear


def choose_mask(
    subject: Subject,
    target: Target,
    attack: Attack,
    select: Indices,
    statistics: FeatureStatistics,
    linear: LinearHead,
    setting: HardenSetting,
    progress: Progress,
) -> MaskChoice:
    """Rank the features and choose how many of them to mask.

    Raises
    ------
    GateError
        Every size costs more clean accuracy than is allowed.
    UsageError
        No such score, or a ratio out of its range.
    """
    if setting.score not in SCORES:
        raise UsageError(f"--score takes {', '.join(SCORES)}, not {setting.score!r}")
    ranking = rank(SCORES[setting.score](statistics))
    if setting.mask_ratio is not None:
        size = size_of_ratio(len(ranking), setting.mask_ratio)
        return choose(ranking, size, setting.score)
    curve = MaskCurve.empty(ranking)
    for pairs in attacked_pairs(target, attack, subject.threat, subject.dataset, select):
        curve = curve.update(linear, *_by_feature(pairs, subject), pairs.y)
        progress("choosing the mask", curve.count, len(select))
    return choose(ranking, best_size(curve, setting.max_accuracy_drop), setting.score)


def _by_feature(pairs: Pairs, subject: Subject) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    head = subject.classifier.head
    return by_feature(pairs.clean_features, head), by_feature(pairs.attacked_features, head)
