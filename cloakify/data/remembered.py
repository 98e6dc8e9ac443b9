"""Decoded samples that are kept, where they are few and small: what attacks them comes back."""

from __future__ import annotations

import math
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from cloakify.data.dataset import Feed
from cloakify.numeric.arrays import AnyArray, Indices

# Bytes of samples that are kept, which any machine can spare.
KEPT = 1 << 26


class RememberedFeed:
    """Loads samples once, and hands them out from memory when they are asked for again.

    Parameters
    ----------
    feed
        Loads them.
    rows
        All that may be asked for, int64, in ascending order.
    """

    def __init__(self, feed: Feed, rows: Indices) -> None:
        self._feed, self._rows = feed, rows
        self.sample_shape = feed.sample_shape
        self._kept: AnyArray | None = None
        self._lock = Lock()
        self._known = np.zeros(len(rows), np.bool_)

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Return these samples, of which those not known yet are loaded."""
        places = np.searchsorted(self._rows, rows)
        new = np.unique(places[~self._known[places]])
        # Threads that come for the same at once load it twice, and keep the same.
        if len(new) or self._kept is None:
            loaded = self._feed.load(self._rows[new])
            with self._lock:
                if self._kept is None:
                    self._kept = np.empty((len(self._rows), *self.sample_shape), loaded.dtype)
            self._kept[new] = loaded
            self._known[new] = True
        return self._kept[places]


def remembered(feed: Feed, rows: Indices, itemsize: int) -> Feed:
    """Return a feed that keeps what it has loaded, or the same where that would be much.

    Parameters
    ----------
    feed
        Loads samples of numbers of ``itemsize`` bytes.
    rows
        All that may be asked for, int64.
    """
    size = len(rows) * math.prod(feed.sample_shape) * itemsize
    return feed if size > KEPT else RememberedFeed(feed, np.unique(rows))
