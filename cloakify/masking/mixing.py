"""Mixed samples, which make more of few: what lies between two of them.

Mixup (Zhang, Cisse, Dauphin and Lopez-Paz, arXiv 1710.09412) without its mixed labels: a
mixture is to be answered as the source answers it, asked anew, which tells more of the source than
its answers on samples it has been trained on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cloakify.data import Batch
from cloakify.numeric.arrays import floats


def mixed(batch: Batch, generator: np.random.Generator) -> Batch:
    """Return each sample mixed with another of its batch, of which it keeps at least one half.

    A mixture keeps the label and the index of the sample that it is more of, and stays in any box
    that holds both.

    Parameters
    ----------
    batch
        Samples [n, …].
    generator
        Says which is mixed with which, and how much of it stays: uniform in [½, 1].
    """
    x = floats(batch.x)
    shape = (len(x),) + (1,) * (x.ndim - 1)
    share = generator.uniform(0.5, 1.0, shape).astype(np.float32)
    other = x[generator.permutation(len(x))]
    return replace(batch, x=other + share * (x - other))
