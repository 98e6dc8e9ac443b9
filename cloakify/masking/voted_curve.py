"""Right answers at every size of a mask before a vote, which is no linear map of the features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloakify.masking.linear_head import LinearHead
from cloakify.numeric.arrays import Array, Flags, Labels

# Numbers that scores of one pass hold.
_AT_ONCE = 1 << 22


def right_of_votes(
    head: LinearHead, features: Array, y: Labels, ranking: NDArray[np.int64]
) -> Flags:
    """Tell which answers are right with the k first features masked; bool [n, D + 1].

    Parameters
    ----------
    head
        That of a vote.
    features, y
        float32 [n, D] and int64 [n].
    ranking
        Feature indices [D], the first to be masked first.
    """
    size = len(ranking)
    weight = np.stack([vote.weight for vote in head.votes], axis=1).astype(np.float64)
    bias = np.stack([vote.bias for vote in head.votes]).astype(np.float64)
    right = np.empty((len(y), size + 1), np.bool_)
    rows = max(1, _AT_ONCE // ((size + 1) * bias.size))
    # From the last rank up: a sum of t terms holds the ranks beyond D − t.
    order = ranking[::-1]
    for start in range(0, len(y), rows):
        part = slice(start, start + rows)
        terms = features[part][:, order, None, None] * weight[order]
        scores = np.concatenate([np.zeros((len(terms), 1, *bias.shape)), terms], axis=1)
        np.cumsum(scores, axis=1, out=scores)
        answers = head.voted(scores + bias).argmax(axis=-1)
        right[part] = (answers == y[part, None])[:, ::-1]
    return right
