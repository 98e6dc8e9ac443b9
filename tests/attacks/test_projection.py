"""The projection to a hyperplane in a box against the conditions that make a move the smallest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks.projection import to_hyperplane


def drawn(seed: int):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 8))
    normal = rng.standard_normal((3, size)) * (rng.random((3, size)) > 0.2)
    low, high = -rng.random((3, size)), rng.random((3, size))
    low[rng.random((3, size)) < 0.2] = 0
    high[rng.random((3, size)) < 0.2] = np.inf
    return normal, rng.standard_normal(3) * 0.7, low, high


@given(st.integers(0, 10_000), st.sampled_from(["linf", "l2"]))
def test_no_shorter_move_reaches_the_plane(seed, norm):
    """By the shape of every optimum: what is not at its bound moves at the common pace."""
    normal, rise, low, high = drawn(seed)
    found = to_hyperplane(normal, rise, low, high, norm)
    assert (found >= low - 1e-12).all() and (found <= high + 1e-12).all()
    reached = np.einsum("nd,nd->n", normal, found)
    for row in range(3):
        weight, move = normal[row], found[row]
        assert (move[weight == 0] == 0).all()
        # Never past the plane, and never away from it.
        assert -1e-12 <= reached[row] * np.sign(rise[row]) <= abs(rise[row]) + 1e-9
        toward = weight * np.sign(rise[row])
        bound = np.where(toward > 0, high[row], low[row])
        free = (weight != 0) & (move != bound)
        if abs(reached[row] - rise[row]) > 1e-9:
            # Out of reach: everything is at its bound.
            assert not free.any()
            continue
        pace = np.ones_like(weight) if norm == "linf" else np.abs(weight)
        speeds = np.abs(move[free]) / pace[free]
        assert np.ptp(speeds) < 1e-9 if free.any() else True
        if free.any():
            held = (weight != 0) & ~free
            assert (np.abs(move[held]) / pace[held] <= speeds.max() + 1e-9).all()
