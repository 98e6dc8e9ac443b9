"""The norms of threat models, sample by sample."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloakify.numeric.arrays import as_rows

Norm = Literal["linf", "l2"]
"""In which the size of a perturbation is measured."""

Real = TypeVar("Real", np.float32, np.float64)


def lengths(moves: NDArray[Real], norm: str) -> NDArray[Real]:
    """Return the norm of each of n moves [n, …]: the largest size for ``linf``, else the root of
    the sum of squares; [n], of the same type.
    """
    rows = as_rows(moves)
    length: NDArray[Real] = (
        np.abs(rows).max(axis=1, initial=0.0)
        if norm == "linf"
        else np.sqrt(np.square(rows).sum(axis=1))
    )
    return length


def dual_lengths(slopes: NDArray[Real], norm: str) -> NDArray[Real]:
    """Return how much each of n gradients [n, …] rises over a move of length 1; [n].

    By Hölder's inequality the dual norm: the sum of sizes for ``linf``, and l2 is its own.
    """
    rows = as_rows(slopes)
    return np.abs(rows).sum(axis=1) if norm == "linf" else lengths(rows, norm)
