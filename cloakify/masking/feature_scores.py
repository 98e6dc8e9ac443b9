"""Scores: how harmful each feature is. The highest are masked first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.statistics import FeatureStatistics
from cloakify.numeric.arrays import Doubles


def deepcloak(statistics: FeatureStatistics) -> Doubles:
    """How far the attack moves the feature: ``s_j = Σ |φ_j(x′) − φ_j(x)|``.

    Gao et al., arXiv 1702.06763, section 3.
    """
    return statistics.shift


def margin(statistics: FeatureStatistics) -> Doubles:
    """How much the feature helps the strongest wrong class: ``Σ φ_j(x′)·(W_k − W_y)_j``."""
    return statistics.margin


def rank(scores: Doubles) -> NDArray[np.int64]:
    """Return the features from the highest score to the lowest, equal ones by lower index."""
    return np.argsort(-scores, kind="stable")


def random_ranking(num_features: int, seed: int) -> NDArray[np.int64]:
    """Return the features in random order: the control that every score must beat."""
    return np.random.default_rng(seed).permutation(num_features)
