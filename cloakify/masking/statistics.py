"""Sums over clean and attacked features, from which every score is computed.

They form a commutative monoid: float64 sums that can be updated batch by batch and merged over
shards in any order, so memory does not grow with the data and any scheduler can spread the work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from cloakify.masking.captured import pooled
from cloakify.numeric.arrays import Array, Doubles, Labels
from cloakify.numeric.judging import is_right, nearest_rivals, signs


@dataclass(frozen=True)
class FeatureStatistics:
    """What a calibration run knows about each of D features.

    Attributes
    ----------
    count
        Number of pairs.
    clean_correct, attacked_correct
        How many of them the model classified rightly.
    shift
        [D]: ``Σ |φ_j(x′) − φ_j(x)|``. Gao et al., arXiv 1702.06763, section 3.
    margin
        [D]: ``Σ φ_j(x′)·(W_k − W_y)_j``, k the strongest wrong class at x′: what feature j adds to
        the attacker's margin.
    """

    count: int
    clean_correct: int
    attacked_correct: int
    shift: Doubles
    margin: Doubles

    @classmethod
    def empty(cls, num_features: int) -> Self:
        """Return the neutral element of :meth:`merge`."""
        return cls(0, 0, 0, np.zeros(num_features), np.zeros(num_features))

    @classmethod
    def of_pairs(
        cls,
        clean: Array,
        attacked: Array,
        clean_logits: Array,
        attacked_logits: Array,
        y: Labels,
        weight: Array,
    ) -> Self:
        """Return the statistics of n pairs.

        Parameters
        ----------
        clean, attacked
            Features, [n, D], or [n, P, D] where the head reads P positions.
        clean_logits, attacked_logits
            [n, C].
        y
            Labels [n], or [n, K].
        weight
            The head's weight, [D, C].
        """
        moved = np.abs(attacked.astype(np.float64) - clean)
        return cls(
            count=len(y),
            clean_correct=int(is_right(clean_logits, y).sum()),
            attacked_correct=int(is_right(attacked_logits, y).sum()),
            shift=moved.reshape(-1, clean.shape[-1]).sum(axis=0),
            margin=(pooled(attacked) * _toward_rival(attacked_logits, y, weight)).sum(axis=0),
        )

    def merge(self, other: Self) -> Self:
        """Return the statistics of both sets of pairs together."""
        return type(self)(
            *(getattr(self, part.name) + getattr(other, part.name) for part in fields(self))
        )


def _toward_rival(logits: Array, y: Labels, weight: Array) -> Doubles:
    """Return the weights [n, D] by which features count for the strongest wrong class.

    Of independent labels that is the one that is nearest to being the other way.
    """
    rival = nearest_rivals(logits, y, 1)[:, 0]
    rows = np.arange(len(y))
    if y.ndim == 2:
        own = signs(y, np.dtype(np.float64))[rows, rival]
        return np.asarray(-own[:, None] * weight.T[rival], np.float64)
    return np.asarray(weight.T[rival] - weight.T[y], np.float64)
