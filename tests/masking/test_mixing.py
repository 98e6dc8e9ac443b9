"""Mixed samples lie between two samples of the batch, nearer to their own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.data import Batch
from cloakify.masking.mixing import mixed


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_a_mixture_is_between_its_sample_and_another(count: int, seed: int) -> None:
    # Corners of a simplex: the shares can be read off the mixture itself.
    x = np.eye(count, dtype=np.float32).reshape(count, 1, count)
    batch = Batch(x, np.arange(count), np.arange(count) + 7)
    found = mixed(batch, np.random.default_rng(seed))
    shares = found.x.reshape(count, count)
    assert found.x.dtype == np.float32
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert ((shares > 0).sum(axis=1) <= 2).all()
    assert (np.diagonal(shares) >= 0.5).all()
    assert found.y.tolist() == batch.y.tolist()
    assert found.index.tolist() == batch.index.tolist()


def test_mixing_takes_a_copy_and_follows_the_generator() -> None:
    x = np.random.default_rng(0).uniform(size=(6, 3)).astype(np.float32)
    batch = Batch(x.copy(), np.arange(6), np.arange(6))
    one, same, other = (mixed(batch, np.random.default_rng(seed)).x for seed in (1, 1, 2))
    np.testing.assert_array_equal(batch.x, x)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
