"""The nearest point of a hyperplane within a box, exactly."""

from __future__ import annotations

import numpy as np

from cloakify.numeric.arrays import Doubles


def to_hyperplane(
    normal: Doubles, rise: Doubles, low: Doubles, high: Doubles, norm: str
) -> Doubles:
    """Return the smallest move d with ⟨normal, d⟩ = rise and low ≤ d ≤ high, for each row.

    Where no such d exists, the one that comes nearest to the hyperplane. Solves Croce & Hein,
    arXiv 1907.02044, section 2.1 (their program sorts). The solution has |d_i| = min(λ·k_i, room_i)
    in the direction of the rise, k_i = 1 for linf and |normal_i| for l2; ⟨normal, d⟩ is then
    concave and piecewise linear in λ, so Newton's method from below comes to its end in as many
    steps as it crosses pieces, never past the root.

    Parameters
    ----------
    normal
        [n, D].
    rise
        [n].
    low, high
        [n, D], low ≤ 0 ≤ high; may be infinite.
    norm
        ``linf`` or ``l2``: what is smallest.

    Returns
    -------
    float64 [n, D].
    """
    steep = np.abs(normal)
    upwards = (normal > 0) == (rise > 0)[:, None]
    room = np.where(upwards, high, -low)
    # A coordinate with no weight does not move.
    room[steep == 0] = 0
    pace = np.ones_like(steep) if norm == "linf" else steep
    goal = np.abs(rise)
    scale = np.zeros(len(normal))
    size = np.zeros_like(steep)
    running = np.arange(len(normal))
    while len(running):
        free = size[running] < room[running]
        slope = np.einsum("nd,nd,nd->n", steep[running], pace[running], free)
        short = goal[running] - np.einsum("nd,nd->n", steep[running], size[running])
        # Rounding leaves a little; once it stops shrinking, no piece is crossed any more.
        going = (slope > 0) & (short > 1e-12 * goal[running])
        running = running[going]
        further = scale[running] + short[going] / slope[going]
        going = further > scale[running]
        running = running[going]
        scale[running] = further[going]
        size[running] = np.minimum(scale[running, None] * pace[running], room[running])
    return np.where(upwards, size, -size) * np.where(normal == 0, 0.0, 1.0)
