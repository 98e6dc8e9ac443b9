"""What is done to batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.numeric.arrays import filled, floats, softmax


@given(count=st.integers(1, 6), size=st.integers(0, 9))
def test_filled_keeps_what_is_there_and_repeats_the_last(count: int, size: int) -> None:
    rows = np.arange(count * 2).reshape(count, 2)
    full = filled(rows, size)
    assert len(full) == max(count, size) and (full[:count] == rows).all()
    assert (full[count:] == rows[-1]).all()


def test_floats_copies_only_what_is_of_another_type() -> None:
    same = np.zeros(3, np.float32)
    assert floats(same) is same
    assert floats(np.array([1, 2])).dtype == np.float32


@given(seed=st.integers(0, 2**32 - 1), axis=st.integers(0, 2))
def test_softmax_sums_to_one_and_does_not_overflow(seed: int, axis: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((2, 3, 4)).astype(np.float32)
    shares = softmax(logits, axis)
    np.testing.assert_allclose(shares.sum(axis=axis), 1, rtol=1e-5)
    ratio = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis, keepdims=True)
    np.testing.assert_allclose(shares, ratio, rtol=1e-5)
    np.testing.assert_allclose(softmax(logits + np.float32(300), axis), shares, rtol=1e-3)
