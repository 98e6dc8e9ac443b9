"""Mixed samples, which make more of few: what lies between two of them.

Mixup (Zhang, Cisse, Dauphin and Lopez-Paz, arXiv 1710.09412) without its mixed labels: a
mixture is to be answered as the source answers it, asked anew, which tells more of the source than
its answers on samples it has been trained on.
"""

from __future__ import annotations

import numpy as np

from cloakify.numeric.arrays import Array, Indices, floats


def draw_mixtures(count: int, generator: np.random.Generator) -> tuple[Indices, Array]:
    """Say for each of so many samples which other of them it is mixed with, and what of it stays.

    Returns
    -------
    partner, share
        int64 [count]; float32 [count], uniform in [½, 1].
    """
    share = floats(generator.uniform(0.5, 1.0, count))
    return generator.permutation(count), share


def mixed(x: Array, other: Array, share: Array) -> Array:
    """Return mixtures of samples [n, …] with others, of which the first keep a share [n].

    A mixture stays in any box that holds both.
    """
    return other + share.reshape(-1, *[1] * (x.ndim - 1)) * (x - other)
