"""Copies that a user gives: handed out as they are, and held to ball and box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import ThreatModel
from cloakify.attacks.given import BOX_ROUNDING, ROUNDING, within

seeds = st.integers(0, 2**32 - 1)
norms = st.sampled_from(["linf", "l2"])


def samples(seed: int, norm: str, eps: float) -> tuple[ThreatModel, np.ndarray, np.ndarray]:
    """A threat model with a factor and box of its own; samples, and unit moves in data units."""
    rng = np.random.default_rng(seed)
    factor = rng.uniform(0.1, 50, (1, 3, 1)).astype(np.float32)
    lower, upper = -2 * factor, 3 * factor
    clean = rng.uniform(-0.5, 0.5, (4, 3, 5)) * factor
    move = rng.uniform(-1, 1, (4, 3, 5))
    order = np.inf if norm == "linf" else 2
    move /= np.linalg.norm(move.reshape(4, -1), order, axis=1)[:, None, None]
    return ThreatModel(norm, eps, factor, lower, upper), clean, move * factor  # type: ignore[arg-type]


@given(seed=seeds, norm=norms, eps=st.floats(1e-3, 0.4))
def test_ball_ends_at_the_budget_but_for_rounding(seed: int, norm: str, eps: float) -> None:
    threat, clean, move = samples(seed, norm, eps)
    for share, expected in ((1, True), (1 + ROUNDING / 2, True), (1 + 2 * ROUNDING, False)):
        ball, box = within(clean + share * eps * move, clean, threat)
        assert ball.tolist() == [expected] * 4
        assert box.all()


@given(seed=seeds, above=st.booleans(), row=st.integers(0, 3))
def test_box_ends_at_its_bounds_but_for_rounding(seed: int, above: bool, row: int) -> None:
    threat, clean, _ = samples(seed, "linf", 100.0)
    edge, sign = (threat.upper, 1) if above else (threat.lower, -1)
    for share, expected in ((0.0, True), (0.5, True), (2.0, False)):
        copies = clean.copy()
        beyond = edge.astype(np.float64) + sign * share * BOX_ROUNDING * threat.factor
        copies[row, 1, 2] = beyond[0, 1, 0]
        ball, box = within(copies, clean, threat)
        assert box[row] == expected and box.sum() == 3 + expected
        assert ball.all()


def test_rounding_is_what_files_round_off() -> None:
    # float16 keeps eleven bits; a level of 8 bits is 1/255, and neither may pass for rounding.
    assert pytest.approx(0, abs=2.0**-11) == ROUNDING
    assert 0 < BOX_ROUNDING < 1e-2 / 255
