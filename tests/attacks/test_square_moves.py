"""Square attack's proposals: windows, budgets, schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import square_moves as moves

shapes = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


def test_schedule_is_autoattacks():
    query = np.array([0, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2000, 2001, 4001, 8001])
    halvings = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 9]
    np.testing.assert_array_equal(moves.share(0.8, query), 0.8 / 2 ** np.array(halvings))


@given(shapes, st.floats(0.001, 0.9), st.integers(0, 1000))
def test_linf_sets_one_window_to_the_budget(shape, p, seed):
    rng = np.random.default_rng(seed)
    delta = rng.uniform(-0.5, 0.5, (3, *shape)).astype(np.float32)
    draws = rng.random((3, moves.draws_per_query("linf", shape[0])), np.float32)
    found = moves.propose_linf(delta, draws, np.full(3, p), 2.0)
    changed = np.abs(found) == 2
    assert (found[~changed] == delta[~changed]).all()
    for window, values in zip(changed, found, strict=True):
        rows, columns = (np.flatnonzero(window[0].any(axis=axis)) for axis in (1, 0))
        # One solid rectangle, the same in every channel, of one sign in each.
        assert window.all(axis=0).sum() == len(rows) * len(columns) == window[0].sum() > 0
        assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)
        assert all(len(set(values[c][window[c]])) == 1 for c in range(shape[0]))


@given(shapes, st.floats(0.001, 0.9), st.integers(0, 1000))
def test_l2_keeps_the_whole_budget(shape, p, seed):
    rng = np.random.default_rng(seed)
    first = moves.initial_l2(rng.random((2, 25 * (shape[0] + 1)), np.float32), shape, 0.7)
    np.testing.assert_allclose(np.linalg.norm(first.reshape(2, -1), axis=1), 0.7, rtol=1e-5)
    draws = rng.random((2, moves.draws_per_query("l2", shape[0])), np.float32)
    length = np.linalg.norm(moves.propose_l2(first, draws, np.full(2, p), 0.7), axis=(2, 3))
    length = np.linalg.norm(length, axis=1)
    # In images of a few pixels the new bumps may cancel the old ones.
    cancelled = (length < 1e-6) & (min(shape[1:]) < 6)
    np.testing.assert_allclose(length[~cancelled], 0.7, rtol=1e-5)


@pytest.mark.parametrize("axis", [None, 1, 3])
def test_layouts_come_back(axis):
    from cloakify.attacks.square import channels_back, channels_first

    x = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    first = channels_first(x, axis)
    assert first.shape == {None: (2, 1, 1, 60), 1: (2, 3, 4, 5), 3: (2, 5, 3, 4)}[axis]
    assert (channels_back(first, x.shape[1:], axis) == x).all()
