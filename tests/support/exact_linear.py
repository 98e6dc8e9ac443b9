"""Linear classifiers z = W x, of which it is known exactly what withstands a budget."""

from __future__ import annotations

import numpy as np

EPS, SAMPLES, SIDE, CLASSES = 0.1, 64, 6, 3


def drawings(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples most of whose numbers lie on the border, classes, and weights for them."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (count, 1, SIDE, SIDE)).astype(np.float32)
    weight = rng.normal(0, 1, (SIDE * SIDE, CLASSES)).astype(np.float32)
    weight[:: SIDE + 1] *= 3
    return x, (x.reshape(count, -1) @ weight).argmax(axis=1), weight


def exactly_robust(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> int:
    """Return how many samples no point of ball and box changes the answer to, of z = W x."""
    flat = x.reshape(len(x), -1)
    lowest, highest = (np.clip(flat + step, 0, 1) - flat for step in (-EPS, EPS))
    robust = np.ones(len(x), bool)
    for rival in range(weight.shape[1]):
        apart = weight[:, y].T - weight[:, [rival] * len(y)].T
        margin = (flat * apart).sum(1) + np.minimum(apart * lowest, apart * highest).sum(1)
        robust &= (margin > 0) | (y == rival)
    return int(robust.sum())
