"""Optimise a mask with entries between 0 and 1, and rank the features by what is left of them.

    minimise  CE((φ(x′)∘m) W + b) + w · CE((φ(x)∘m) W + b)   over m in [0, 1]^D

by projected Adam on all captured features at once, for every clean weight w. The features that end
lowest are masked first; ties, among them all that are driven to 0, go to the one with the steeper
slope.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.captured import Captured
from cloakify.masking.greedy import loss_slopes
from cloakify.masking.linear_head import LinearHead

STEPS = 150
RATE = 0.02


def relaxed_rankings(
    head: LinearHead, captured: Captured, clean_weights: Sequence[float]
) -> tuple[NDArray[np.int64], ...]:
    """Return the features [D], the first to be masked first, for each clean weight w."""
    masks = np.ones((len(clean_weights), len(head.weight)), np.float32)
    first, second = np.zeros(masks.shape), np.zeros(masks.shape)
    slopes = np.zeros(masks.shape)
    for step in range(1, STEPS + 1):
        slopes = loss_slopes(head, captured, masks, clean_weights)
        # Adam, Kingma & Ba, arXiv 1412.6980, algorithm 1, with its default decay rates.
        first = 0.9 * first + 0.1 * slopes
        second = 0.999 * second + 0.001 * slopes**2
        move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-12)
        masks = np.clip(masks - RATE * move, 0, 1).astype(np.float32)
    return tuple(np.lexsort((-slope, mask)) for slope, mask in zip(slopes, masks, strict=True))
