"""Ball and box: the nearest point, against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.attacks import ThreatModel

FACTOR = np.array([0.5, 4.0], np.float32).reshape(1, 2, 1)
SHAPE = (3, 2, 3)


def threat(norm: str, eps: float, bound: float = np.inf) -> ThreatModel:
    edge = np.full_like(FACTOR, bound)
    return ThreatModel(norm, eps, FACTOR, -edge, edge)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(
    share=st.sampled_from([0.0, 1e-3, 0.5, 0.99, 1.01, 3.0, 1e3]),
    eps=st.floats(0.01, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_what_is_inside_stays_and_what_is_outside_comes_to_the_surface(norm, share, eps, seed):
    random = np.random.default_rng(seed)
    clean = random.standard_normal(SHAPE).astype(np.float32)
    ball = threat(norm, eps)
    offset = random.standard_normal(SHAPE).astype(np.float32)
    length = ball.distance(clean + offset, clean).reshape(-1, 1, 1)
    x = (clean + offset * (share * eps / length)).astype(np.float32)
    found = ball.project(x, clean)
    if share < 1:
        np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-6)
        return
    np.testing.assert_allclose(ball.distance(found, clean), eps, rtol=1e-3, atol=1e-5)
    # No point of the ball is nearer: of a convex set that is so if no point lies further ahead.
    other = clean + (random.standard_normal((200, *SHAPE)) * FACTOR * eps).astype(np.float32)
    for points in other:
        points = ball.project(points, clean)
        unit = ((x - found) / FACTOR**2).reshape(len(x), -1)
        ahead = (points - found).reshape(len(x), -1)
        reach = np.einsum("nd,nd->n", unit, ahead)
        assert (reach <= 1e-3 * np.linalg.norm(unit, axis=1) * np.linalg.norm(ahead, axis=1)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(eps=st.floats(0.01, 5), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_never_outside_of_ball_and_box(norm, eps, seed):
    random = np.random.default_rng(seed)
    clean = random.uniform(-1, 1, SHAPE).astype(np.float32)
    bounded = threat(norm, eps, 1.0)
    x = clean + 10 * random.standard_normal(SHAPE).astype(np.float32)
    found = bounded.project(x, clean)
    assert (np.abs(found) <= 1).all()
    assert (bounded.distance(found, clean) <= eps * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(eps=st.floats(0.01, 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_hair_inside_touches_no_border_and_leaves_nothing(norm, eps, seed):
    """Samples that lie on the border of the box themselves stay within the whole ball."""
    random = np.random.default_rng(seed)
    clean = random.integers(-1, 2, SHAPE).astype(np.float32)
    bounded = threat(norm, eps, 1.0)
    near = bounded.inside(clean[0].size)
    x = near.project(clean + 10 * random.standard_normal(SHAPE).astype(np.float32), clean)
    assert (np.abs(x) < 1).all()
    assert (bounded.distance(x, clean) < eps).all()
    whole = bounded.project(x + 1e-2 * (x - clean), clean)
    assert (bounded.distance(whole, x) <= 2e-2 * eps + 1e-6).all()
