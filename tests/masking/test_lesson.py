"""Which samples of a step are left clean."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.masking.lesson import clean_rows
from cloakify.numeric.arrays import in_chunks


@given(st.integers(1, 200), st.integers(0, 16), st.integers(1, 64))
def test_every_shard_leaves_as_many_clean(count: int, sixteenths: int, size: int) -> None:
    share = sixteenths / 16
    left = clean_rows(count, share)
    assert len(left) == count and left.sum() == int(share * count)
    for rows in in_chunks(np.arange(count), size):
        assert abs(left[rows].sum() - share * len(rows)) < 1
