"""Samples that are all but copies of others: frames of one film, one picture saved twice.

What was fitted to a sample holds for its near copy too, whether it would hold for new ones or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks.threat import ThreatModel
from cloakify.data import Dataset
from cloakify.numeric.arrays import Array, Indices
from cloakify.numeric.norms import lengths

# Random projections by which the nearest sample is looked for: a near copy is far nearer than all
# others, so a rough measure finds it.
PROJECTIONS = 32
# A near copy is nearer than this part of what samples are apart on average. Where all are within a
# few ε of each other, in a narrow box, that alone makes them no copies.
NEAR = 0.1
# Samples of fewer numbers may lie that near by chance: of N at random in d dimensions the nearest
# is about N^(−1/d) of the way off.
FEWEST_NUMBERS = 32
BATCH = 256


def near_copies(
    dataset: Dataset,
    samples: Indices,
    others: Indices,
    threat: ThreatModel,
    progress: Callable[[int], None] = lambda done: None,
) -> NDArray[np.bool_]:
    """Tell which samples are all but copies of one of the others.

    That is within 2ε, so that an attacker's balls meet, and far nearer than others are. Only the
    one that is nearest after a random projection is looked at. Samples of a few numbers are no
    copies, however near.

    Parameters
    ----------
    samples, others
        Which samples, n of them, and which others.
    threat
        Norm and ε.
    progress
        Called with the number of others that were looked at.

    Returns
    -------
    bool [n].
    """
    if math.prod(dataset.sample_shape) < FEWEST_NUMBERS:
        return np.zeros(len(samples), np.bool_)
    mine = np.concatenate(
        [_sketch(batch.x, threat) for batch in dataset.batches(samples, BATCH)], dtype=np.float32
    )
    nearest = np.zeros(len(mine), np.int64)
    least = np.full(len(mine), np.inf, np.float32)
    done, total, squares = 0, np.zeros(PROJECTIONS), 0.0
    for batch in dataset.batches(others, BATCH):
        theirs = _sketch(batch.x, threat)
        # |a − b|² but for |a|², which is the same for all b.
        own = np.square(theirs).sum(axis=1)
        apart = own - 2 * (mine @ theirs.T)
        place = apart.argmin(axis=1)
        closest = apart[np.arange(len(mine)), place]
        closer = closest < least
        nearest[closer], least[closer] = batch.index[place[closer]], closest[closer]
        done, total, squares = done + len(theirs), total + theirs.sum(axis=0), squares + own.sum()
        progress(done)
    own = np.square(mine).sum(axis=1)
    usual = own + (squares - 2 * (mine @ total)) / max(done, 1)
    unusual: NDArray[np.bool_] = least + own <= NEAR**2 * usual
    pairs = (dataset.batches(indices, BATCH) for indices in (samples, nearest))
    meet = [_meet(first.x, second.x, threat) for first, second in zip(*pairs, strict=True)]
    return unusual & np.concatenate(meet)


def _sketch(x: NDArray[np.generic], threat: ThreatModel) -> Array:
    """Return random projections [n, PROJECTIONS] of samples on the scale of ε."""
    scaled = (x.astype(np.float32) / threat.factor).reshape(len(x), -1)
    directions = np.random.default_rng(0).standard_normal(
        (scaled.shape[1], PROJECTIONS), np.float32
    )
    return np.asarray(scaled @ directions, np.float32)


def _meet(
    first: NDArray[np.generic], second: NDArray[np.generic], threat: ThreatModel
) -> NDArray[np.bool_]:
    """Tell which pairs of samples are within 2ε of each other."""
    difference = first.astype(np.float32) - second.astype(np.float32)
    size = lengths(difference / threat.factor, threat.norm)
    # Pixels a whole number of levels apart come out a rounding more.
    meet: NDArray[np.bool_] = size <= 2 * threat.eps * (1 + 1e-4)
    return meet
