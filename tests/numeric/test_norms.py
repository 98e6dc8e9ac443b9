"""Norms against NumPy's and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.numeric.norms import dual_lengths, lengths

ORDER = {"linf": np.inf, "l2": 2}
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("norm", ORDER)
@given(seed=seeds)
def test_lengths_are_the_norms_of_flat_samples(norm: str, seed: int) -> None:
    moves = np.random.default_rng(seed).standard_normal((3, 2, 4))
    wanted = [np.linalg.norm(move.reshape(-1), ORDER[norm]) for move in moves]
    np.testing.assert_allclose(lengths(moves, norm), wanted, rtol=1e-12)


@pytest.mark.parametrize("norm", ORDER)
@given(seed=seeds)
def test_dual_length_is_the_largest_rise_of_a_unit_move(norm: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slopes, moves = rng.standard_normal((2, 5, 3, 2))
    moves /= lengths(moves, norm)[:, None, None]
    dual = dual_lengths(slopes, norm)
    assert (np.abs((slopes * moves).sum(axis=(1, 2))) <= dual * (1 + 1e-12)).all()
    steepest = np.sign(slopes) if norm == "linf" else slopes / lengths(slopes, norm)[:, None, None]
    np.testing.assert_allclose((slopes * steepest).sum(axis=(1, 2)), dual, rtol=1e-12)


@pytest.mark.parametrize("norm", ORDER)
def test_nothing_has_no_length(norm: str) -> None:
    assert lengths(np.zeros((2, 0)), norm).tolist() == [0, 0]
    assert lengths(np.zeros((0, 3)), norm).tolist() == []
