"""Where iterated attacks start: random points, the same for a sample in every batch and order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cloakify.attacks.base import sample_generator
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels


def random_in_ball(
    clean: Array, index: Labels, numbers: Iterable[int], threat: ThreatModel, seed: int
) -> Array:
    """Return a random point of ball and box for each sample.

    linf: uniform in the cube. l2: uniform direction, and a radius whose density makes the point
    uniform in the ball.

    Parameters
    ----------
    clean, index
        Samples [n, …] and which ones they are.
    numbers
        Of each sample's restart, n of them.
    threat, seed
        As for every attack.
    """
    noise = np.empty(clean.shape, np.float32)
    for row, generator in enumerate(_generators(index, numbers, seed)):
        if threat.norm == "linf":
            noise[row] = generator.uniform(-1, 1, clean.shape[1:])
        else:
            direction = generator.standard_normal(clean.shape[1:])
            direction /= np.sqrt(np.square(direction).sum())
            noise[row] = direction * generator.uniform() ** (1 / direction.size)
    return threat.project(clean + noise * threat.radius, clean)


def random_on_sphere(
    clean: Array, index: Labels, numbers: Iterable[int], threat: ThreatModel, seed: int
) -> Array:
    """Return a random point at distance ε, cut to the box, for each sample.

    Auto-PGD's start (arXiv 2003.01690, in its authors' program): ``x + ε·ζ/‖ζ‖``, ζ uniform in the
    cube for linf and Gaussian for l2. Parameters as for :func:`random_in_ball`.
    """
    noise = np.empty(clean.shape, np.float32)
    for row, generator in enumerate(_generators(index, numbers, seed)):
        if threat.norm == "linf":
            point = generator.uniform(-1, 1, clean.shape[1:])
            noise[row] = point / np.abs(point).max()
        else:
            point = generator.standard_normal(clean.shape[1:])
            noise[row] = point / np.sqrt(np.square(point).sum())
    return threat.project(clean + noise * threat.radius, clean)


def random_corner(
    clean: Array, index: Labels, numbers: Iterable[int], threat: ThreatModel, seed: int
) -> Array:
    """Return a random corner of the cube for linf, and a point on the sphere for l2, in the box.

    Parameters as for :func:`random_in_ball`.
    """
    if threat.norm != "linf":
        return random_on_sphere(clean, index, numbers, threat, seed)
    noise = np.empty(clean.shape, np.float32)
    for row, generator in enumerate(_generators(index, numbers, seed)):
        noise[row] = 2 * generator.integers(2, size=clean.shape[1:]) - 1
    return threat.project(clean + noise * threat.radius, clean)


def _generators(index: Labels, numbers: Iterable[int], seed: int) -> Iterable[np.random.Generator]:
    for sample, number in zip(index, numbers, strict=True):
        yield sample_generator(seed, int(sample), number)
