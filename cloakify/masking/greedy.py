"""Take features away a few at a time, those first whose loss the attacker feels most.

Removing feature j from a masked model changes the cross-entropy, to first order, by

    Δ_j = −Σ_i φ_ij · ((p_i − onehot y_i)·W_j)        p = softmax of the masked logits

Unlike a score that is computed once, p is computed anew as features go, so that a feature whose
harm is already gone is kept. Clean samples count too: masking must not cost what it protects.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.captured import Captured
from cloakify.masking.linear_head import LinearHead
from cloakify.numeric.arrays import Array, Doubles, Labels, floats, sigmoid, softmax

# Looks at the gradient; each takes an equal share of the features away.
ROUNDS = 64


def greedy_rankings(
    head: LinearHead, captured: Captured, clean_weights: Sequence[float]
) -> tuple[NDArray[np.int64], ...]:
    """Return the features [D] in the order in which they are taken away, for each clean weight.

    Parameters
    ----------
    clean_weights
        Weight of the clean samples' loss beside the attacked ones'.
    """
    size = len(head.weight)
    masks = np.ones((len(clean_weights), size), np.float32)
    orders: list[list[NDArray[np.int64]]] = [[] for _ in clean_weights]
    rounds = min(ROUNDS, size)
    ends = np.linspace(0, size, rounds + 1).round().astype(int)
    for start, end in pairwise(ends):
        slopes = loss_slopes(head, captured, masks, clean_weights)
        # The slope is that of turning a feature up; the steepest are turned off first.
        for mask, slope, order in zip(masks, slopes, orders, strict=True):
            left = np.flatnonzero(mask)
            order.append(left[np.argsort(-slope[left], kind="stable")[: end - start]])
            mask[order[-1]] = 0
    return tuple(np.concatenate(order) for order in orders)


def loss_slopes(
    head: LinearHead, captured: Captured, masks: Array, clean_weights: Sequence[float]
) -> Doubles:
    """Return for each mask m the slope, with respect to it, of

    the mean cross-entropy on the attacked samples plus, times its weight, that on the clean ones.

    Parameters
    ----------
    masks
        [K, D].
    clean_weights
        [K].

    Returns
    -------
    [K, D].
    """
    attacked = _slopes(head, captured.attacked, captured.attacked_y, masks)
    clean = _slopes(head, captured.clean, captured.y, masks)
    slopes: Doubles = attacked + np.array(clean_weights)[:, None] * clean
    return slopes


def _slopes(head: LinearHead, features: Array, y: Labels, masks: Array) -> Doubles:
    """Return ∂(mean cross-entropy)/∂m [K, D] of logits (φ ∘ m) W + b."""
    classes = len(head.bias)
    # Side by side: a look at the features, of which there are many, serves all masks.
    weight = (masks.T[:, :, None] * head.weight[:, None, :]).reshape(len(head.weight), -1)
    logits = (features @ weight).reshape(len(features), -1, classes) + head.bias
    if y.ndim == 2:
        # Each label has a cross-entropy of its own, and their sum is what counts.
        error = sigmoid(logits) - floats(y)[:, None]
    else:
        error = softmax(logits, axis=2)
        error[np.arange(len(y)), :, y] -= 1
    # Σ_i φ_ij (e_i·W_j) = Σ_c W_jc (φᵀ e)_jc
    pulled = (features.T @ error.reshape(len(y), -1)).reshape(len(head.weight), -1, classes)
    slopes: Doubles = np.einsum("jc,jkc->kj", head.weight, pulled).astype(np.float64) / len(y)
    return slopes
