"""Random starts: where they may lie, that no way is preferred, and whose they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import Pgd, ThreatModel
from cloakify.attacks.starts import random_corner, random_in_ball, random_on_sphere
from tests.support.classifiers import mlp_classifier, target_of, threat_of

EPS = 0.25
STARTS = {"ball": random_in_ball, "sphere": random_on_sphere, "corner": random_corner}
norms = pytest.mark.parametrize("norm", ["linf", "l2"])
starts = pytest.mark.parametrize("kind", STARTS)


def threat(norm: str, size: int, low: float = -np.inf, high: float = np.inf) -> ThreatModel:
    """A budget of ε times a factor of each value's own."""
    factor = np.linspace(0.5, 2, size, dtype=np.float32)[None]
    box = (np.full_like(factor, bound) for bound in (low, high))
    return ThreatModel(norm, EPS, factor, *box)  # type: ignore[arg-type]


def moves(kind: str, norm: str, samples: int, size: int, seed: int = 0) -> np.ndarray:
    """Perturbations of zeros, in data units."""
    given_threat = threat(norm, size)
    clean = np.zeros((samples, size), np.float32)
    points = STARTS[kind](clean, np.arange(samples), [0] * samples, given_threat, seed)
    return points.astype(np.float64) / given_threat.factor


def length(points: np.ndarray, norm: str) -> np.ndarray:
    return np.linalg.norm(points, np.inf if norm == "linf" else 2, axis=1)


@norms
@given(seed=st.integers(0, 2**31), size=st.integers(1, 20))
def test_spheres_are_spheres_and_balls_are_within(norm: str, seed: int, size: int) -> None:
    on = length(moves("sphere", norm, 5, size, seed), norm)
    np.testing.assert_allclose(on, EPS, rtol=1e-5)
    corner = moves("corner", norm, 5, size, seed)
    np.testing.assert_allclose(length(corner, norm), EPS, rtol=1e-5)
    if norm == "linf":
        np.testing.assert_allclose(np.abs(corner), EPS, rtol=1e-5)
    inside = length(moves("ball", norm, 5, size, seed), norm)
    assert (inside <= EPS * (1 + 1e-5)).all() and (inside > 0).all()


@norms
@starts
def test_no_way_is_preferred(kind: str, norm: str) -> None:
    points = moves(kind, norm, 4000, 3)
    spread = points.std(axis=0)
    # Four standard errors of the mean of 4,000 numbers of variance ε² at most.
    assert spread.max() <= EPS
    assert np.abs(points.mean(axis=0)).max() < 4 * spread.max() / 4000**0.5
    assert spread.max() < 1.06 * spread.min()
    together = np.corrcoef(points.T) - np.eye(3)
    assert np.abs(together).max() < 4 / 4000**0.5


@norms
def test_balls_are_filled_evenly(norm: str) -> None:
    """The share of the points within r is that of the volume: (r/ε)^d."""
    size = 3
    inside = np.sort(length(moves("ball", norm, 4000, size), norm) / EPS)
    shares = (np.arange(4000) + 0.5) / 4000
    # Kolmogorov's distance at a chance of 1 in 10,000.
    assert np.abs(inside**size - shares).max() < 2.23 / 4000**0.5


@norms
@starts
def test_a_start_is_its_samples_and_its_restarts(kind: str, norm: str) -> None:
    clean = np.zeros((4, 6), np.float32)

    def points(index: list[int], numbers: list[int], seed: int) -> np.ndarray:
        picked = np.array(index)
        return STARTS[kind](clean[: len(index)], picked, numbers, threat(norm, 6), seed)

    whole = points([3, 1, 7, 5], [0, 1, 2, 0], 0)
    assert (points([7, 3], [2, 0], 0) == whole[[2, 0]]).all()
    others = [points([3], [1], 0), points([3], [0], 1), points([4], [0], 0)]
    assert all((other != whole[0]).any() for other in others)


@norms
@starts
def test_starts_keep_to_the_box(kind: str, norm: str) -> None:
    bounded = threat(norm, 5, low=-0.01, high=0.02)
    clean = np.zeros((50, 5), np.float32)
    points = STARTS[kind](clean, np.arange(50), [0] * 50, bounded, 0)
    assert points.min() == np.float32(-0.01) and points.max() == np.float32(0.02)


def test_pgd_starts_at_random_unless_it_is_told_where() -> None:
    target = target_of(mlp_classifier(3, features=6, classes=4))
    rng = np.random.default_rng(0)
    x = rng.random((5, 6), np.float32)
    at = (target, x, target.logits(x).argmax(axis=1), np.arange(5), threat_of(target, "linf", 0.01))
    found = [Pgd(steps=1, step_size=1e-4, seed=seed).run(*at) for seed in (0, 1)]
    assert (np.abs(found[0] - found[1]).max(axis=1) > 1e-3).all()
    still = [
        Pgd(steps=1, step_size=1e-4, random_start=False, seed=seed).run(*at) for seed in (0, 1)
    ]
    assert (still[0] == still[1]).all()
