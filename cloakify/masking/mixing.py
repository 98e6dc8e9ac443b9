"""Mixed samples, which make more of few: what lies between two of them.

Mixup (Zhang, Cisse, Dauphin and Lopez-Paz, arXiv 1710.09412) without its mixed labels: a
mixture is to be answered as the source answers it, asked anew, which tells more of the source than
its answers on samples it has been trained on.

Each sample is mixed some times and no more, so that the source is asked once for each mixture
whatever the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.numeric.arrays import Array, Indices, floats


@dataclass(frozen=True, eq=False)
class Mixtures:
    """The mixtures of n samples, k of each.

    Attributes
    ----------
    samples
        Which samples, int64 [n], in ascending order.
    partner
        Which sample each is mixed with, int64 [k, n].
    share
        How much of it stays, float32 [k, n], in [½, 1].
    """

    samples: Indices
    partner: Indices
    share: Array

    @classmethod
    def draw(cls, folds: Sequence[Indices], count: int, seed: int) -> Mixtures:
        """Draw so many mixtures of each sample of some sets, which may overlap.

        Samples are mixed with those that are in the same sets, so that none tells a set of samples
        that it does not hold.
        """
        samples = np.unique(np.concatenate(folds))
        held_by = np.stack([np.isin(samples, fold) for fold in folds], axis=1)
        _, group = np.unique(held_by, axis=0, return_inverse=True)
        partner = np.empty((count, len(samples)), np.int64)
        # Told by the third number from the generators of the samples' order.
        generator = np.random.default_rng([seed, 0, 1])
        for place in range(count):
            for number in range(int(group.max()) + 1):
                members = np.flatnonzero(group == number)
                partner[place, members] = samples[generator.permutation(members)]
        share = generator.uniform(0.5, 1.0, partner.shape)
        return cls(samples, partner, floats(share))


def mixed(x: Array, other: Array, share: Array) -> Array:
    """Return mixtures of samples [n, …] with others, of which the first keep a share [n].

    A mixture stays in any box that holds both.
    """
    return other + share.reshape(-1, *[1] * (x.ndim - 1)) * (x - other)
