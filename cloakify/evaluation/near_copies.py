"""Samples that are all but copies of others: frames of one film, one picture saved twice.

What was fitted to a sample holds for its near copy too, whether it would hold for new ones or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Flags, Indices, as_rows
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


class Looks(Protocol):
    """Looks at samples, wherever they are read."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one of them."""

    def sketches(self, samples: Indices) -> Iterator[tuple[Indices, Array]]:
        """Yield them in order, ``BATCH`` at a time, with what :func:`sketch` makes of them."""

    def meetings(self, first: Indices, second: Indices) -> Flags:
        """Tell what :func:`meet` says of pairs."""


def near_copies(
    looks: Looks,
    samples: Indices,
    others: Indices,
    progress: Callable[[int], None] = lambda done: None,
) -> Flags:
    """Tell which samples are all but copies of one of the others.

    That is within 2ε, so that an attacker's balls meet, and far nearer than others are. Only the
    one that is nearest after a random projection is looked at. Samples of a few numbers are no
    copies, however near.

    Parameters
    ----------
    looks
        At samples; all that has to be read goes through it.
    samples, others
        Which samples, n of them, and which others.
    progress
        Called with the number of others that were looked at.

    Returns
    -------
    bool [n].
    """
    if math.prod(looks.sample_shape) < FEWEST_NUMBERS:
        return np.zeros(len(samples), np.bool_)
    mine = np.concatenate([rows for _, rows in looks.sketches(samples)], dtype=np.float32)
    nearest = np.zeros(len(mine), np.int64)
    least = np.full(len(mine), np.inf, np.float32)
    done, total, squares = 0, np.zeros(PROJECTIONS), 0.0
    for index, theirs in looks.sketches(others):
        # |a − b|² but for |a|², which is the same for all b.
        own = np.square(theirs).sum(axis=1)
        apart = own - 2 * (mine @ theirs.T)
        place = apart.argmin(axis=1)
        closest = apart[np.arange(len(mine)), place]
        closer = closest < least
        nearest[closer], least[closer] = index[place[closer]], closest[closer]
        done, total, squares = done + len(theirs), total + theirs.sum(axis=0), squares + own.sum()
        progress(done)
    own = np.square(mine).sum(axis=1)
    usual = own + (squares - 2 * (mine @ total)) / max(done, 1)
    unusual: Flags = least + own <= NEAR**2 * usual
    return unusual & looks.meetings(samples, nearest)


def sketch(x: NDArray[np.generic], threat: ThreatModel) -> Array:
    """Return random projections [n, PROJECTIONS] of samples on the scale of ε."""
    scaled = as_rows(x.astype(np.float32) / threat.factor)
    directions = np.random.default_rng(0).standard_normal(
        (scaled.shape[1], PROJECTIONS), np.float32
    )
    return np.asarray(scaled @ directions, np.float32)


def meet(first: NDArray[np.generic], second: NDArray[np.generic], threat: ThreatModel) -> Flags:
    """Tell which pairs of samples are within 2ε of each other."""
    difference = first.astype(np.float32) - second.astype(np.float32)
    size = lengths(difference / threat.factor, threat.norm)
    # Pixels a whole number of levels apart come out a rounding more.
    near: Flags = size <= 2 * threat.eps * (1 + 1e-4)
    return near
