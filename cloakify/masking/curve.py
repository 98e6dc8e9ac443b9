"""Accuracy at every mask size at once.

Masking the k highest-ranked features takes their terms out of every logit:

    z(k) = b + Σ_{j beyond the k-th rank} φ_j W_j

so a running sum along the ranking gives the logits of all D + 1 sizes. It is taken in blocks of
ranks, one matrix product each. Within a block the margin over each rival class rises and falls by
its positive and its negative terms at most, two more products; where that can't change the answer
the block is done, and only the others are looked at rank by rank. Together that costs a few
products with the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.linear import LinearHead

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]

# Ranks in a block, and elements of the largest working array.
BLOCK = 32
CHUNK = 1 << 21


@dataclass(frozen=True)
class MaskCurve:
    """How many samples are classified rightly when the k first features of a ranking are masked.

    Attributes
    ----------
    ranking
        Feature indices [D], the first to be masked first.
    count
        Number of samples.
    clean, attacked
        Right answers at k = 0 … D, int64 [D + 1].
    """

    ranking: NDArray[np.int64]
    count: int
    clean: Counts
    attacked: Counts

    @classmethod
    def empty(cls, ranking: NDArray[np.int64]) -> MaskCurve:
        """Return the curve of no samples."""
        zeros = np.zeros(len(ranking) + 1, np.int64)
        return cls(ranking, 0, zeros, zeros)

    def update(self, head: LinearHead, clean: Array, attacked: Array, y: Labels) -> MaskCurve:
        """Return the curve with n more pairs of features [n, D] counted in."""
        return MaskCurve(
            self.ranking,
            self.count + len(y),
            self.clean + right_at_every_size(head, clean, y, self.ranking),
            self.attacked + right_at_every_size(head, attacked, y, self.ranking),
        )


def right_at_every_size(
    head: LinearHead, features: Array, y: Labels, ranking: NDArray[np.int64]
) -> Counts:
    """Count right answers with the k first features of ``ranking`` masked, for k = 0 … D.

    Parameters
    ----------
    features
        [n, D], or [n, P, D]: then logits are the mean over the positions P.
    """
    if features.ndim == 3:
        features = features.mean(axis=1)
    size, classes = head.weight.shape
    # From the last rank up, in double, so that a sum of t terms holds the ranks beyond D − t.
    order = ranking[::-1]
    blocks = -(-size // BLOCK)
    weight = np.zeros((blocks * BLOCK, classes))
    weight[:size] = head.weight[order]
    weight = weight.reshape(blocks, BLOCK, classes)
    right = np.zeros((blocks, BLOCK), np.int64)
    step = max(1, CHUNK // (blocks * (classes + BLOCK)))
    for start in range(0, len(y), step):
        labels = y[start : start + step]
        part = np.zeros((len(labels), blocks * BLOCK))
        part[:, :size] = features[start : start + step][:, order]
        part = part.reshape(len(labels), blocks, BLOCK).swapaxes(0, 1)
        right += _right_in_blocks(part, weight, head.bias, labels)
    none_kept = int((head.bias.argmax() == y).sum())
    return np.concatenate([right.reshape(-1)[:size][::-1], [none_kept]])


def _right_in_blocks(
    features: NDArray[np.float64], weight: NDArray[np.float64], bias: Array, y: Labels
) -> Counts:
    """Count right answers after each rank, int64 [B, b], for features [B, n, b]."""
    logits = np.empty((len(weight) + 1, len(y), len(bias)))
    logits[0] = bias
    np.matmul(features, weight, out=logits[1:])
    np.cumsum(logits, axis=0, out=logits)
    right, undecided = _decide_blocks(features, weight, logits[:-1], y)
    counts = np.repeat(right.sum(axis=1)[:, None], weight.shape[1], axis=1)
    blocks, samples = np.nonzero(undecided)
    step = max(1, CHUNK // weight[0].size)
    for start in range(0, len(blocks), step):
        block, row = blocks[start : start + step], samples[start : start + step]
        terms = features[block, row][:, :, None] * weight[block]
        np.cumsum(terms, axis=1, out=terms)
        terms += logits[block, row][:, None, :]
        # argmax takes the first of equal logits, as every caller that reads a class does.
        np.add.at(counts, block, terms.argmax(axis=2) == y[row][:, None])
    return counts


def _decide_blocks(
    features: NDArray[np.float64],
    weight: NDArray[np.float64],
    logits: NDArray[np.float64],
    y: Labels,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which samples stay right throughout a block, and which are not decided, bool [B, n].

    ``logits`` [B, n, C] are those before each block.
    """
    right = np.zeros(logits.shape[:2], np.bool_)
    wrong = np.zeros_like(right)
    signed = bool(features.min(initial=0.0) < 0)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        gap = weight[:, :, label : label + 1] - weight
        down, up = np.maximum(-gap, 0.0), np.maximum(gap, 0.0)
        part = features[:, rows]
        above = np.maximum(part, 0.0) if signed else part
        fall, rise = above @ down, above @ up
        if signed:
            below = np.maximum(-part, 0.0)
            fall += below @ up
            rise += below @ down
        start = logits[:, rows]
        margin = start[:, :, label : label + 1] - start
        # A hair of slack for the rounding of the sums themselves.
        slack = 1e-9 * (np.abs(start).max(axis=2, keepdims=True) + fall + rise + 1.0)
        safe = margin - fall > slack
        safe[:, :, label] = True
        right[:, rows] = safe.all(axis=2)
        wrong[:, rows] = (margin + rise < -slack).any(axis=2)
    return right, ~(right | wrong)
