"""Exact matches of independent labels at every mask size at once.

As in :mod:`~cloakify.masking.curve` a running sum along the ranking gives the logits of all sizes.
Labels have no rivals whose margins would have to be told apart, so each label's sum is looked at by
itself: a sample is right at the sizes at which all of its labels are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cloakify.masking.linear_head import LinearHead
from cloakify.numeric.arrays import Array, Counts, Flags, Indices, Labels

# Numbers in the working arrays.
CHUNK = 1 << 20


def matches_at_every_size(
    head: LinearHead, features: Sequence[Array], y: Labels, attacked: Flags, ranking: Indices
) -> Counts:
    """Count exact matches with the k first features of ``ranking`` masked, for k = 0 … D.

    Parameters
    ----------
    features
        A row [D] for each of n samples.
    y
        Labels int64 [n, K].
    attacked
        Which samples are attacked ones, bool [n].

    Returns
    -------
    int64 [3, D + 1]: of the clean samples that match at k = 0, of the other clean ones, and of the
    attacked ones.
    """
    size = len(ranking)
    # From the last rank up, so that a sum of t terms holds the ranks beyond D − t.
    order = ranking[::-1]
    weight = head.weight[order].astype(np.float64)
    total = np.zeros((3, size + 1), np.int64)
    step = max(1, CHUNK // size)
    edges = np.linspace(0, len(y), 1 + -(-len(y) // step)).astype(int)
    for start, end in pairwise(edges):
        rows = np.stack(features[start:end])[:, order].astype(np.float64)
        right = np.ones((end - start, size + 1), np.bool_)
        for label in range(y.shape[1]):
            logits = np.full((end - start, size + 1), head.bias[label], np.float64)
            logits[:, 1:] += np.cumsum(rows * weight[:, label], axis=1)
            right &= (logits > 0) == (y[start:end, label, None] == 1)
        # Of t = D … 0 terms.
        right = right[:, ::-1]
        kind = np.where(attacked[start:end], 2, np.where(right[:, 0], 0, 1))
        for group in range(3):
            total[group] += right[kind == group].sum(axis=0)
    return total
