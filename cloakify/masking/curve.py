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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.captured import pooled
from cloakify.masking.label_curve import matches_at_every_size
from cloakify.masking.linear_head import LinearHead
from cloakify.masking.voted_curve import right_of_votes
from cloakify.numeric.arrays import Array, Counts, Doubles, Labels

# Clean features, attacked ones and labels.
Part = tuple[Array, Array, Labels]

# Ranks in a block, a multiple of 8; elements of the working arrays, which should stay in a core's
# cache.
BLOCK = 64
CHUNK = 1 << 20
# Of features that are looked at together.
GROUP = 1 << 20
# Samples that are brought into the order of ranks at once.
ROWS = 64


@dataclass(frozen=True)
class Group:
    """Clean and attacked samples that are looked at together, in the order of their labels.

    Attributes
    ----------
    features
        A row of float32 [D] for each of the n samples, where it lies in the part it came with.
    y
        Labels, int64 [n], ascending; or [n, K] of 0 and 1, in any order.
    attacked
        Which samples are attacked ones, bool [n].
    """

    features: list[Array]
    y: Labels
    attacked: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of clean samples."""
        return int((~self.attacked).sum())

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Group:
        """Join parts, each clean features, attacked ones ([n, D] or [n, P, D]) and labels [n]."""
        arrays = [pooled(features) for part in parts for features in part[:2]]
        y = np.concatenate([labels for *_, labels in parts for _ in range(2)])
        lengths = [len(array) for array in arrays]
        attacked = np.repeat(np.arange(len(arrays)) % 2 == 1, lengths)
        order = np.argsort(y, kind="stable") if y.ndim == 1 else np.arange(len(y))
        rows = [row for array in arrays for row in array]
        return cls([rows[place] for place in order.tolist()], y[order], attacked[order])


def in_groups(parts: Iterable[Part]) -> Iterator[Group]:
    """Join parts, each clean features, attacked ones and labels, to about ``GROUP`` features.

    A curve is updated in far less time with a few hundred samples at once than batch by batch.
    """
    group: list[Part] = []
    size = 0
    for part in parts:
        group.append(part)
        size += part[0].size
        if size >= GROUP:
            yield Group.of(group)
            group, size = [], 0
    if group:
        yield Group.of(group)


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

    def update(self, head: LinearHead, group: Group) -> MaskCurve:
        """Return the curve with a group's samples counted in."""
        if group.y.ndim == 2:
            counts = matches_at_every_size(
                head, group.features, group.y, group.attacked, self.ranking
            )
        elif head.votes:
            counts = _of_votes(head, group, self.ranking)
        else:
            counts = right_at_every_size(head, group, self.ranking)
        kept, won, attacked = counts
        return MaskCurve(
            self.ranking,
            self.count + group.count,
            self.clean + kept + won,
            self.attacked + attacked,
            self.kept + kept,
        )


def right_at_every_size(head: LinearHead, group: Group, ranking: NDArray[np.int64]) -> Counts:
    """Count right answers with the k first features of ``ranking`` masked, for k = 0 … D.

    Returns
    -------
    int64 [3, D + 1]: of the clean samples that are answered rightly at k = 0, of the other clean
    ones, and of the attacked ones.
    """
    size, classes = head.weight.shape
    # From the last rank up, in double, so that a sum of t terms holds the ranks beyond D − t.
    blocks = -(-size // BLOCK)
    weight = np.zeros((blocks * BLOCK, classes))
    weight[:size] = head.weight[ranking[::-1]]
    weight = weight.reshape(blocks, BLOCK, classes)
    # What fills up the last block has no weight.
    order = np.zeros(blocks * BLOCK, np.int64)
    order[:size] = ranking[::-1]

    def in_chunk(chunk: slice) -> Counts:
        y = group.y[chunk]
        ranked = np.empty((len(y), len(order)), np.float32)
        for start in range(0, len(y), ROWS):
            # Far faster than stacking as many.
            rows = np.concatenate(group.features[chunk][start : start + ROWS]).reshape(-1, size)
            # All indices are in range; "clip" writes to ``out`` without a copy.
            rows.take(order, axis=1, out=ranked[start : start + ROWS], mode="clip")
        terms = ranked.reshape(len(y), blocks, BLOCK).swapaxes(0, 1)
        margin = _margins(terms, weight, head.bias, y)
        whole = (margin[-1] > 0) | (np.arange(classes)[:, None] >= y) & (margin[-1] == 0)
        kind = np.where(group.attacked[chunk], 2, np.where(whole.all(axis=0), 0, 1))
        counts = _right_in_blocks(terms, weight, margin, y, kind).reshape(3, -1)
        none_kept = np.bincount(kind[head.bias.argmax() == y], minlength=3)
        return np.concatenate([counts[:, :size][:, ::-1], none_kept[:, None]], axis=1)

    step = max(1, CHUNK // (blocks * (classes + BLOCK)))
    edges = np.linspace(0, len(group.y), 1 + -(-len(group.y) // step)).astype(int)
    total = np.zeros((3, size + 1), np.int64)
    for ends in pairwise(edges):
        total += in_chunk(slice(*ends))
    return total


def _of_votes(head: LinearHead, group: Group, ranking: NDArray[np.int64]) -> Counts:
    """As :func:`right_at_every_size`, of a vote."""
    right = right_of_votes(head, np.stack(group.features), group.y, ranking)
    of_clean = ~group.attacked
    kinds = (of_clean & right[:, 0], of_clean & ~right[:, 0], group.attacked)
    return np.stack([right[kind].sum(axis=0) for kind in kinds])


def _margins(features: Array, weight: Doubles, bias: Array, y: Labels) -> Doubles:
    """Return each label's logit over each class's before each block and after the last.

    Parameters
    ----------
    features, weight
        [B, n, b] and [B, b, C].

    Returns
    -------
    [B + 1, C, n].
    """
    logits = np.empty((len(weight) + 1, len(bias), len(y)))
    logits[0] = bias[:, None]
    np.matmul(weight.swapaxes(1, 2), features.astype(np.float64).swapaxes(1, 2), out=logits[1:])
    for number in range(1, len(logits)):
        logits[number] += logits[number - 1]
    np.subtract(logits[:, y, np.arange(len(y))][:, None, :], logits, out=logits)
    return logits


def _right_in_blocks(
    features: Array, weight: Doubles, margin: Doubles, y: Labels, kind: NDArray[np.int64]
) -> Counts:
    """Count right answers after each rank, int64 [3, B, b].

    Parameters
    ----------
    features, weight
        [B, n, b] and [B, b, C].
    margin
        [B + 1, C, n].
    y
        Labels [n], ascending.
    kind
        The count that a sample belongs to, [n].
    """
    size, classes = weight.shape[1:]
    # Rows that can be taken: a class of a block, and a block of a sample.
    columns = weight.swapaxes(1, 2).reshape(-1, size)
    parts = features.swapaxes(0, 1).reshape(-1, size)
    right, undecided = _decide_blocks(features, weight, margin, y)
    whole = (kind == np.arange(3)[:, None]).astype(np.float32) @ right.T.astype(np.float32)
    counts = np.repeat(whole.astype(np.int64)[:, :, None], size, axis=2)
    pairs = np.flatnonzero(undecided.any(axis=1))
    rivals = undecided.swapaxes(1, 2).reshape(-1, classes)
    # Whole pairs of a block and a sample, about a working array's worth of rivals at a time.
    load = np.cumsum(rivals[pairs].sum(axis=1)) // max(1, CHUNK // size)
    for group in np.split(pairs, np.flatnonzero(np.diff(load)) + 1):
        pair, rival = np.nonzero(rivals[group])
        block, row = np.divmod(group[pair], len(y))
        terms = columns.take(block * classes + y[row], axis=0)
        terms -= columns.take(block * classes + rival, axis=0)
        terms *= parts.take(row * len(weight) + block, axis=0)
        np.cumsum(terms, axis=1, out=terms)
        # The first of equal logits is the answer, as for every caller that reads a class.
        least = -margin[block, rival, row]
        least = np.where(y[row] < rival, least, np.nextafter(least, np.inf))
        won = terms >= least[:, None]
        # Eight truth values at a time.
        won = np.bitwise_and.reduceat(won.view(np.uint64), _firsts(pair), axis=0)
        block, row = np.divmod(group, len(y))
        key = kind[row] * len(weight) + block
        order = np.argsort(key, kind="stable")
        key, won = key[order], won[order].view(np.uint8)
        counts.reshape(-1, size)[key[_firsts(key)]] += np.add.reduceat(
            won, _firsts(key), 0, np.int64
        )
    return counts


def _firsts(ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.diff(ascending, prepend=-1))


def _decide_blocks(
    features: Array, weight: Doubles, margin: Doubles, y: Labels
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
    # Far above the rounding of the sums, and far below what is left to decide.
    slack = 1e-5 * (1 + max(margin.max(initial=0), -margin.min(initial=0)) + fall.max(initial=0))
    safe = margin[:-1] - fall > slack
    safe[:, y, np.arange(len(y))] = True
    lost = (margin[1:] + fall < -slack).any(axis=1, keepdims=True)
    right: NDArray[np.bool_] = np.all(safe, axis=1)
    undecided = ~safe & ~lost
    return right, undecided
