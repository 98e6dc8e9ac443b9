"""Take features away a few at a time, those first whose loss the attacker feels most.

Removing feature j from a masked model changes the cross-entropy, to first order, by

    Δ_j = −Σ_i φ_ij · ((p_i − onehot y_i)·W_j)        p = softmax of the masked logits

Unlike a score that is computed once, p is computed anew as features go, so that a feature whose
harm is already gone is kept. Clean samples count too: masking must not cost what it protects.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.captured import Array, Captured, Labels
from cloakify.masking.linear import LinearHead

# Looks at the gradient; each takes an equal share of the features away.
ROUNDS = 64
# Weight of the clean samples' loss beside the attacked ones'.
# Less than 1: a mask has the clean accuracy it may spend in `--max-accuracy-drop`.
CLEAN_WEIGHT = 0.3


def greedy_ranking(
    head: LinearHead, captured: Captured, clean_weight: float = CLEAN_WEIGHT
) -> NDArray[np.int64]:
    """Return the features [D] in the order in which they are taken away."""
    size = len(head.weight)
    mask = np.ones(size, np.float32)
    order: list[NDArray[np.int64]] = []
    rounds = min(ROUNDS, size)
    ends = np.linspace(0, size, rounds + 1).round().astype(int)
    for start, end in pairwise(ends):
        slope = loss_slope(head, captured.attacked, captured.attacked_y, mask)
        slope = slope + clean_weight * loss_slope(head, captured.clean, captured.y, mask)
        # The slope is that of turning a feature up; the steepest are turned off first.
        left = np.flatnonzero(mask)
        taken = left[np.argsort(-slope[left], kind="stable")[: end - start]]
        order.append(taken)
        mask[taken] = 0
    return np.concatenate(order)


def loss_slope(head: LinearHead, features: Array, y: Labels, mask: Array) -> NDArray[np.float64]:
    """Return ∂(mean cross-entropy)/∂m [D] of logits (φ ∘ m) W + b."""
    logits = head.logits(features, mask)
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    # Σ_i φ_ij (e_i·W_j) = Σ_c W_jc (φᵀ e)_jc
    slope: NDArray[np.float64] = np.einsum("jc,jc->j", head.weight, features.T @ error)
    return slope.astype(np.float64) / len(y)
