"""Samples are loaded once where they are kept, and are the same whoever asks, and when."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloakify.data.remembered import KEPT, RememberedFeed, remembered


class Counted:
    """Makes of row r a sample of r; counts what it is asked for."""

    sample_shape = (2, 3)

    def __init__(self) -> None:
        self.loaded: Counter[int] = Counter()

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        self.loaded.update(rows.tolist())
        return np.broadcast_to(rows.reshape(-1, 1, 1), (len(rows), 2, 3)).astype(np.float32)


@given(st.data())
def test_each_row_is_loaded_once(data: st.DataObject) -> None:
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, 10**6), min_size=1, max_size=9))))
    counted = Counted()
    feed = remembered(counted, rows, 4)
    asked = data.draw(st.lists(st.lists(st.sampled_from(rows.tolist()), max_size=12), max_size=5))
    for some in asked:
        found = feed.load(np.array(some, np.int64))
        assert found.dtype == np.float32 and found.shape == (len(some), 2, 3)
        assert (found[:, 1, 2] == some).all()
        # What was handed out is the caller's.
        found[...] = -1
    assert counted.loaded == Counter({row for some in asked for row in some})


def test_threads_that_ask_at_once_get_the_same() -> None:
    rows = np.arange(100)
    feed = remembered(Counted(), rows, 4)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(feed.load, [rows] * 40):
            assert (found[:, 0, 0] == rows).all()


def test_what_would_be_much_is_not_kept() -> None:
    counted, fitting = Counted(), KEPT // (2 * 3 * 4)
    assert isinstance(remembered(counted, np.arange(fitting), 4), RememberedFeed)
    assert remembered(counted, np.arange(fitting + 1), 4) is counted
