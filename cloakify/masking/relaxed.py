"""Optimise a mask with entries between 0 and 1, and rank the features by what is left of them.

    minimise  CE((φ(x′)∘m) W + b) + w · CE((φ(x)∘m) W + b)   over m in [0, 1]^D

by projected Adam on all captured features at once, for every clean weight w. The features that end
lowest are masked first; ties, among them all that are driven to 0, go to the one with the steeper
slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cloakify.masking.captured import Captured
from cloakify.masking.greedy import loss_slopes
from cloakify.masking.linear_head import LinearHead
from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Indices

STEPS = 150
RATE = 0.02
# Means over many samples are far smaller than the gradients that Adam's own ε is for.
TINY = 1e-12


def relaxed_rankings(
    head: LinearHead, captured: Captured, clean_weights: Sequence[float]
) -> tuple[Indices, ...]:
    """Return the features [D], the first to be masked first, for each clean weight w."""
    adam = Adam.at(np.ones((len(clean_weights), len(head.weight))))
    for _ in range(STEPS):
        slopes = loss_slopes(head, captured, adam.theta.astype(np.float32), clean_weights)
        adam = adam.step(slopes, RATE, TINY)
        # To single precision, in which the masks are used.
        masks = np.clip(adam.theta, 0, 1).astype(np.float32)
        adam = replace(adam, theta=masks.astype(np.float64))
    return tuple(np.lexsort((-slope, mask)) for slope, mask in zip(slopes, masks, strict=True))
