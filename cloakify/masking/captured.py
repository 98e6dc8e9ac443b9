"""Features kept in memory, within a bound: what rankings that look more than once work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.numeric.arrays import Array, Labels

# Of each side; 32 MB. More samples hardly change a ranking, and memory must not grow with them.
LARGEST = 1 << 23
MOST_SAMPLES = 2048


@dataclass(frozen=True)
class Captured:
    """Clean and attacked features of some samples.

    Attributes
    ----------
    clean, attacked
        float32 [n, D] and [m, D]: m is a multiple of n once attacks on masked models are added.
    y, attacked_y
        Labels, int64 [n] and [m].
    """

    clean: Array
    attacked: Array
    y: Labels
    attacked_y: Labels

    def with_attacked(self, attacked: Array, y: Labels) -> Captured:
        """Return these and further attacked features together."""
        return Captured(
            self.clean,
            np.concatenate([self.attacked, attacked]),
            self.y,
            np.concatenate([self.attacked_y, y]),
        )


def chosen_for_capture(indices: Labels, num_features: int, seed: int) -> Labels:
    """Return the samples to keep the features of: all, or a seeded choice within the bound."""
    most = max(1, min(MOST_SAMPLES, LARGEST // num_features))
    if len(indices) <= most:
        return indices
    chosen = np.random.default_rng([seed, len(indices)]).choice(indices, most, replace=False)
    return np.sort(chosen)


def pooled(features: Array) -> Array:
    """Return features [n, D] of [n, D] or [n, P, D]: the mean over the positions P."""
    return features if features.ndim == 2 else features.mean(axis=1)
