"""How far two gradients are apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

TOLERANCE = 1e-3


def relative(found: Array, exact: Array) -> NDArray[np.float64]:
    """Return ‖found − exact‖₂ / ‖exact‖₂ by sample; NaN where either is not finite."""
    difference = (found.astype(np.float64) - exact).reshape(len(exact), -1)
    norm = np.linalg.norm(exact.reshape(len(exact), -1), axis=1)
    ratio: NDArray[np.float64] = np.linalg.norm(difference, axis=1) / np.maximum(
        norm, np.finfo(np.float64).tiny
    )
    return ratio
