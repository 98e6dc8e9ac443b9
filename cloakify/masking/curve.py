"""Accuracy at every mask size at once.

Masking the k highest-ranked features takes their terms out of every logit:

    z(k) = b + Σ_{j beyond the k-th rank} φ_j W_j

so a running sum along the ranking gives the logits of all D + 1 sizes. It is taken in blocks of
ranks, one matrix product each. Within a block the margin over a rival class falls by its negative
terms at most, one more product, and rises by at most as much plus what it has gained at the end;
where that can't change the answer the block is done, and only the other margins are looked at rank
by rank. Together that costs a few products with the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.captured import pooled
from cloakify.masking.linear import LinearHead

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]
Sums = NDArray[np.float64]

# Ranks in a block; elements of the working arrays, which should stay in a core's cache.
BLOCK = 64
CHUNK = 1 << 19
# Of features that are looked at together.
GROUP = 1 << 20


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
    kept
        Right answers on those clean samples that are answered rightly at k = 0.
    """

    ranking: NDArray[np.int64]
    count: int
    clean: Counts
    attacked: Counts
    kept: Counts

    @classmethod
    def empty(cls, ranking: NDArray[np.int64]) -> MaskCurve:
        """Return the curve of no samples."""
        zeros = np.zeros(len(ranking) + 1, np.int64)
        return cls(ranking, 0, zeros, zeros, zeros)

    @property
    def changed(self) -> Counts:
        """Clean samples that masking has made right or wrong at k = 0 … D, int64 [D + 1]."""
        lost, won = self.kept[0] - self.kept, self.clean - self.kept
        changed: Counts = lost + won
        return changed

    def update(self, head: LinearHead, clean: Array, attacked: Array, y: Labels) -> MaskCurve:
        """Return the curve with n more pairs of features [n, D] counted in."""
        clean = pooled(clean)
        right = head.logits(clean).argmax(axis=1) == y
        kept, won = (
            right_at_every_size(head, clean[rows], y[rows], self.ranking)
            for rows in (right, ~right)
        )
        return MaskCurve(
            self.ranking,
            self.count + len(y),
            self.clean + kept + won,
            self.attacked + right_at_every_size(head, attacked, y, self.ranking),
            self.kept + kept,
        )


def in_groups(
    parts: Iterable[tuple[Array, Array, Labels]],
) -> Iterator[tuple[Array, Array, Labels]]:
    """Join parts, each clean features, attacked ones and labels, to about ``GROUP`` features.

    A curve is updated in far less time with a few hundred samples at once than batch by batch.
    """
    group: list[tuple[Array, Array, Labels]] = []
    size = 0
    for part in parts:
        group.append(part)
        size += part[0].size
        if size >= GROUP:
            yield _joined(group)
            group, size = [], 0
    if group:
        yield _joined(group)


def _joined(group: Sequence[tuple[Array, Array, Labels]]) -> tuple[Array, Array, Labels]:
    clean, attacked, y = (np.concatenate(arrays) for arrays in zip(*group, strict=True))
    return clean, attacked, y


def right_at_every_size(
    head: LinearHead, features: Array, y: Labels, ranking: NDArray[np.int64]
) -> Counts:
    """Count right answers with the k first features of ``ranking`` masked, for k = 0 … D.

    Parameters
    ----------
    features
        [n, D], or [n, P, D]: then logits are the mean over the positions P.
    """
    features = pooled(features)
    size, classes = head.weight.shape
    # From the last rank up, in double, so that a sum of t terms holds the ranks beyond D − t.
    order = ranking[::-1]
    blocks = -(-size // BLOCK)
    weight = np.zeros((blocks * BLOCK, classes))
    weight[:size] = head.weight[order]
    weight = weight.reshape(blocks, BLOCK, classes)
    right = np.zeros((blocks, BLOCK), np.int64)
    # Samples of one label share the products that bound their margins.
    rows = np.argsort(y, kind="stable")
    step = max(1, CHUNK // (blocks * (classes + BLOCK)))
    for start in range(0, len(y), step):
        chunk = rows[start : start + step]
        part = np.zeros((len(chunk), blocks * BLOCK), np.float32)
        part[:, :size] = features[chunk].take(order, axis=1)
        part = part.reshape(len(chunk), blocks, BLOCK).swapaxes(0, 1)
        right += _right_in_blocks(part, weight, head.bias, y[chunk])
    none_kept = int((head.bias.argmax() == y).sum())
    return np.concatenate([right.reshape(-1)[:size][::-1], [none_kept]])


def _right_in_blocks(features: Array, weight: Sums, bias: Array, y: Labels) -> Counts:
    """Count right answers after each rank, int64 [B, b].

    Parameters
    ----------
    features, weight
        [B, n, b] and [B, b, C].
    y
        Labels [n], ascending.
    """
    columns = weight.swapaxes(1, 2)
    logits = np.empty((len(weight) + 1, len(bias), len(y)))
    logits[0] = bias[:, None]
    np.matmul(columns, features.astype(np.float64).swapaxes(1, 2), out=logits[1:])
    for number in range(1, len(logits)):
        logits[number] += logits[number - 1]
    margin = logits[:, y, np.arange(len(y))][:, None, :] - logits
    right, undecided = _decide_blocks(features, weight, margin, y)
    counts = np.repeat(right.sum(axis=1)[:, None], weight.shape[1], axis=1)
    pairs = np.flatnonzero(undecided.any(axis=1))
    rivals = undecided.swapaxes(1, 2).reshape(-1, len(bias))
    # Whole pairs of a block and a sample, about a working array's worth of rivals at a time.
    load = np.cumsum(rivals[pairs].sum(axis=1)) // max(1, CHUNK // weight.shape[1])
    for group in np.split(pairs, np.flatnonzero(np.diff(load)) + 1):
        pair, rival = np.nonzero(rivals[group])
        block, row = np.divmod(group[pair], len(y))
        terms = columns[block, y[row]]
        terms -= columns[block, rival]
        terms *= features[block, row]
        np.cumsum(terms, axis=1, out=terms)
        terms += margin[block, rival, row][:, None]
        # The first of equal logits is the answer, as for every caller that reads a class.
        won = np.where((y[row] < rival)[:, None], terms >= 0, terms > 0)
        won = np.bitwise_and.reduceat(won.view(np.uint8), _firsts(pair), axis=0)
        block = block[_firsts(pair)]
        counts[block[_firsts(block)]] += np.add.reduceat(won, _firsts(block), 0, np.int64)
    return counts


def _firsts(ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.diff(ascending, prepend=-1))


def _decide_blocks(
    features: Array, weight: Sums, margin: Sums, y: Labels
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which samples stay right throughout a block, and which margins must be looked at.

    Parameters
    ----------
    margin
        [B + 1, C, n]: before each block, and after the last.

    Returns
    -------
    right, undecided
        bool [B, n] and [B, C, n].
    """
    fall = np.empty((len(weight), *margin.shape[1:]), np.float32)
    single = weight.swapaxes(1, 2).astype(np.float32)
    terms = features.swapaxes(1, 2)
    signed = bool(features.min(initial=0.0) < 0)
    above = np.maximum(terms, 0) if signed else terms
    for label in np.unique(y):
        rows = slice(*np.searchsorted(y, [label, label + 1]))
        gap = single[:, label : label + 1] - single
        np.matmul(np.maximum(-gap, 0), above[:, :, rows], out=fall[:, :, rows])
        if signed:
            fall[:, :, rows] -= np.maximum(gap, 0) @ np.minimum(terms[:, :, rows], 0)
    before = margin[:-1]
    rise = margin[1:] - before + fall
    # Far above the rounding of the sums, and far below what is left to decide.
    slack = 1e-5 * (np.abs(before) + np.abs(rise) + fall + 1)
    safe = before - fall > slack
    safe[:, y, np.arange(len(y))] = True
    right: NDArray[np.bool_] = np.all(safe, axis=1)
    undecided = ~safe & ~(before + rise < -slack).any(axis=1, keepdims=True)
    return right, undecided
