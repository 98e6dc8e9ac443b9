"""Square attack's random proposals (Andriushchenko et al., arXiv 1912.00049), many samples at once.

Perturbations δ are in data units and channels first: [n, C, H, W]; data that is no image is one row
of one channel. Every sample has draws of its own, uniform in [0, 1), which is all the randomness a
proposal uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cloakify.numeric.arrays import Array, Indices

# Queries after which the share of changed pixels is halved (section 5 and AutoAttack's program).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def share(first: float, query: Indices) -> NDArray[np.float64]:
    """Return the share of pixels p that the queries change, for each sample's query number."""
    halvings = np.searchsorted(_HALVINGS, query, side="left")
    return np.ldexp(np.float64(first), -halvings)


def draws_per_query(norm: str, channels: int) -> int:
    """Return how many numbers a proposal takes."""
    return channels + (2 if norm == "linf" else 5)


def initial_linf(draws: Array, eps: float) -> Array:
    """Vertical stripes of ±ε (section 3.2). ``draws``: [n, C, 1, W], of which δ is made."""
    return _signs(draws) * np.float32(eps)


def initial_l2(draws: Array, shape: tuple[int, int, int], eps: float) -> Array:
    """A 5 × 5 grid of bumps of random sign, ‖δ‖ = ε (section 3.3).

    ``draws``: [n, 25·(C + 1)]; ``shape``: C, H and W.
    """
    channels, height, width = shape
    rows, columns = max(height // 5, 1), max(width // 5, 1)
    above, before = (height - min(5, height) * rows) // 2, (width - min(5, width) * columns) // 2
    delta = np.zeros((len(draws), *shape), np.float32)
    signs = _signs(draws[:, 25:]).reshape(-1, channels, 25)
    for tile in range(25):
        top, left = above + (tile // 5) * rows, before + (tile % 5) * columns
        if top + rows <= height and left + columns <= width:
            bumps = _bumps(rows, columns, draws[:, tile])
            place = (..., slice(top, top + rows), slice(left, left + columns))
            delta[place] = signs[:, :, tile, None, None] * bumps[:, None]
    return _scaled(delta, eps)


def propose_linf(delta: Array, draws: Array, p: NDArray[np.float64], eps: float) -> Array:
    """Set a random window to ±ε, one sign a channel (section 3.2, algorithm 2).

    Parameters
    ----------
    delta
        [n, C, H, W].
    draws
        [n, C + 2].
    p
        Share of the pixels that the window covers, [n].
    eps
        Budget in data units.
    """
    proposal = delta.copy()
    signs = _signs(draws[:, 2:]) * np.float32(eps)
    for size, lanes in _by_size(p, delta.shape, 1):
        place = _window(delta.shape, lanes, draws[lanes, 0], draws[lanes, 1], size)
        proposal[place] = signs[lanes, :, None, None]
    return proposal


def propose_l2(delta: Array, draws: Array, p: NDArray[np.float64], eps: float) -> Array:
    """Move the norm of one random window, and what is unused, to another (algorithm 3).

    Parameters as for :func:`propose_linf`; ``draws``: [n, C + 5].
    """
    proposal = delta.copy()
    signs = _signs(draws[:, 5:])
    unused = np.maximum(eps**2 - np.square(delta).sum(axis=(1, 2, 3)), 0)
    for size, lanes in _by_size(p, delta.shape, 3):
        mine = draws[lanes]
        here = _window(delta.shape, lanes, mine[:, 0], mine[:, 1], size)
        there = _window(delta.shape, lanes, mine[:, 2], mine[:, 3], size)
        before = delta[here]
        bumps = signs[lanes, :, None, None] * _bumps(*size, mine[:, 4])[:, None]
        fresh = bumps + before / _norm(before)
        # ‖δ‖² over both windows: all of it, less what stays after both are cleared.
        whole = np.square(delta[lanes]).sum(axis=(2, 3))
        proposal[here] = 0
        proposal[there] = 0
        freed = whole - np.square(proposal[lanes]).sum(axis=(2, 3))
        room = np.sqrt(np.maximum(freed, 0) + unused[lanes, None] / delta.shape[1])
        proposal[here] = fresh / _norm(fresh) * room[:, :, None, None]
    return _scaled(proposal, eps)


def _by_size(
    p: NDArray[np.float64], shape: tuple[int, ...], least: int
) -> Iterator[tuple[tuple[int, int], Indices]]:
    """Yield each window size that occurs, rows and columns, and which samples have it.

    A square of the share p; where a side is too short for it, the other one makes up for that.
    """
    height, width = shape[2:]
    for value in np.unique(p):
        area = float(value) * height * width
        side = max(round(math.sqrt(area)), least)
        if least > 1 and side % 2 == 0:
            # Bumps have a middle.
            side += 1
        rows, columns = min(side, height), min(side, width)
        if rows < side:
            columns = min(max(round(area / rows), columns), width)
        elif columns < side:
            rows = min(max(round(area / columns), rows), height)
        yield (rows, columns), np.flatnonzero(p == value)


def _window(
    shape: tuple[int, ...], lanes: Indices, down: Array, right: Array, size: tuple[int, int]
) -> tuple[Indices, Indices, Indices, Indices]:
    """Return what indexes one window of each lane, all channels: [lanes, C, rows, columns]."""
    # Every place in the image, as in the paper. AutoAttack's program never reaches its last row and
    # column, which on images of 28² leaves one to two points more of accuracy at 1,000 queries.
    top = (down * (shape[2] - size[0] + 1)).astype(np.int64)
    left = (right * (shape[3] - size[1] + 1)).astype(np.int64)
    rows = top[:, None] + np.arange(size[0])
    columns = left[:, None] + np.arange(size[1])
    channels = np.arange(shape[1])
    return (
        lanes[:, None, None, None],
        channels[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    )


def _bumps(rows: int, columns: int, flips: Array) -> Array:
    """Return two bumps of opposite sign side by side, or one above the other: [n, rows, columns].

    ‖·‖ = 1 each; which way is drawn.
    """
    upright, lying = _pair(rows, columns), _pair(columns, rows).T
    return np.where(flips[:, None, None] > 0.5, upright, lying)


@lru_cache(maxsize=256)
def _pair(rows: int, columns: int) -> Array:
    half = rows // 2
    pair = np.concatenate([_bump(half, columns), -_bump(rows - half, columns)])
    result: Array = (pair / np.sqrt(np.square(pair).sum())).astype(np.float32)
    return result


def _bump(rows: int, columns: int) -> NDArray[np.float64]:
    """Equation 2: η_rs = Σ_{k=0}^{M} 1/(n+1−k)², M = n − the distance from the middle."""
    n = max(rows, columns) // 2
    down = np.abs(np.arange(rows) - rows // 2)
    right = np.abs(np.arange(columns) - columns // 2)
    inward = n - np.maximum(down[:, None], right)
    sums = np.cumsum(1.0 / (n + 1 - np.arange(n + 1)) ** 2)
    bump = sums[inward]
    scaled: NDArray[np.float64] = bump / max(np.sqrt(np.square(bump).sum()), 1e-12)
    return scaled


def _norm(windows: Array) -> Array:
    """‖·‖₂ by sample and channel, [n, C, 1, 1], never 0."""
    length: Array = np.sqrt(np.square(windows).sum(axis=(2, 3), keepdims=True))
    return np.maximum(length, np.float32(1e-12))


def _scaled(delta: Array, eps: float) -> Array:
    length = np.sqrt(np.square(delta).sum(axis=(1, 2, 3), keepdims=True))
    scaled: Array = delta * (np.float32(eps) / np.maximum(length, np.float32(1e-12)))
    return scaled


def _signs(draws: Array) -> Array:
    return np.where(draws < 0.5, np.float32(-1), np.float32(1))
