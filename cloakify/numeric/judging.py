"""What logits say against labels: one class of several, or each of several labels by itself.

Labels tell the two apart by their shape: int64 [n] is a class for each sample, whose logits choose
by the largest; int64 [n, K] of 0 and 1 are K labels, each of which holds where its logit is above
0. A sample of K labels is right where all of them are: an exact match. It is fooled as soon as one
label is the other way, so that labels take the place that wrong classes have:

                     class y                       labels y, signs s = 2y − 1
    margin           Z_y − max_{i≠y} Z_i           min_k s_k Z_k
    rivals           classes of large logits       labels of small s_k Z_k
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloakify.numeric.arrays import Array, Flags, Labels


def predicted(logits: Array, *, independent: bool) -> Labels:
    """Return what logits [n, C] say: a class for each sample, or K labels of 0 and 1."""
    labels: Labels = (
        (logits > 0).astype(np.int64) if independent else logits.argmax(axis=1).astype(np.int64)
    )
    return labels


def is_right(logits: Array, y: Labels) -> Flags:
    """Tell which samples' logits [n, C] say what the labels do. No numbers are no answer."""
    agree = predicted(logits, independent=y.ndim == 2) == y
    right: Flags = agree if y.ndim == 1 else agree.all(axis=1)
    return right & ~np.isnan(logits).any(axis=1)


def margins(logits: Array, y: Labels) -> Array:
    """Return how far each sample is from being wrong; [n]."""
    if y.ndim == 2:
        smallest: Array = (logits * signs(y, logits.dtype)).min(axis=1)
        return smallest
    rows = np.arange(len(y))
    others = logits.copy()
    others[rows, y] = -np.inf
    gap: Array = logits[rows, y] - others.max(axis=1)
    return gap


def nearest_rivals(logits: Array, y: Labels, count: int) -> Labels:
    """Return for each sample the rivals that are nearest to making it wrong, the nearest first.

    Returns
    -------
    int64 [n, min(count, R)] of R = C − 1 classes or K labels; of equal ones the first is nearer.
    """
    if y.ndim == 2:
        nearness = -logits.astype(np.float64) * signs(y, np.dtype(np.float64))
    else:
        nearness = logits.astype(np.float64)
        nearness[np.arange(len(y)), y] = -np.inf
    ranked: Labels = np.argsort(-nearness, axis=1, kind="stable")
    return ranked[:, : min(count, rivals_of(logits.shape[1], independent=y.ndim == 2))]


def rivals_of(num_classes: int, *, independent: bool) -> int:
    """Return how many ways there are to be wrong: other classes, or labels."""
    return num_classes if independent else num_classes - 1


def signs(y: Labels, dtype: np.dtype[np.generic]) -> NDArray[np.floating]:
    """Return −1 and 1 for labels [n, K] of 0 and 1."""
    return (2 * y - 1).astype(dtype)
