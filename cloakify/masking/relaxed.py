"""Optimise a mask with entries between 0 and 1, and rank the features by what is left of them.

    minimise  CE((φ(x′)∘m) W + b) + w · CE((φ(x)∘m) W + b)   over m in [0, 1]^D

by projected Adam on all captured features at once. The features that end lowest are masked first;
ties, among them all that are driven to 0, go to the one with the steeper slope.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.captured import Captured
from cloakify.masking.greedy import CLEAN_WEIGHT, loss_slope
from cloakify.masking.linear import LinearHead

STEPS = 150
RATE = 0.02


def relaxed_ranking(
    head: LinearHead, captured: Captured, clean_weight: float = CLEAN_WEIGHT
) -> NDArray[np.int64]:
    """Return the features [D], the first to be masked first."""
    size = len(head.weight)
    mask = np.ones(size, np.float32)
    first, second = np.zeros(size), np.zeros(size)
    slope = np.zeros(size)
    for step in range(1, STEPS + 1):
        slope = loss_slope(head, captured.attacked, captured.attacked_y, mask)
        slope = slope + clean_weight * loss_slope(head, captured.clean, captured.y, mask)
        # Adam, Kingma & Ba, arXiv 1412.6980, algorithm 1, with its default decay rates.
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-12)
        mask = np.clip(mask - RATE * move, 0, 1).astype(np.float32)
    return np.lexsort((-slope, mask))
