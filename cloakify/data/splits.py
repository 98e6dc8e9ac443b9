"""Which samples are used for what: the fit, select and report splits, and ``--limit``.

Both are functions of the labels and the seed alone. The order comes from a hash written out here
rather than from a random generator, whose stream may change from one NumPy release to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.errors import DataError, UsageError

MINIMUM = 3
"""The fewest samples that make three splits, none of them empty."""

# Dealt round and round: half to fit, a quarter each to select and report. Whatever stretch of the
# pattern a class falls on, its share of each split is within one sample of that.
_FIT, _SELECT, _REPORT = 0, 1, 2
_PATTERN = np.array([_FIT, _SELECT, _REPORT, _FIT])


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets of sample indices, each int64, sorted, and not empty.

    Attributes
    ----------
    fit
        For statistics and tuning; half of the samples.
    select
        For the choice of a mask; a quarter.
    report
        For every accuracy that is printed; a quarter.
    """

    fit: NDArray[np.int64]
    select: NDArray[np.int64]
    report: NDArray[np.int64]

    def limited(
        self,
        labels: NDArray[np.int64] | None,
        seed: int,
        *,
        fit: int | None = None,
        select: int | None = None,
        report: int | None = None,
    ) -> Splits:
        """Return splits of at most so many samples; see :func:`some_of`."""
        limits = ((self.fit, fit), (self.select, select), (self.report, report))
        return Splits(*(some_of(part, labels, most, seed) for part, most in limits))


def split(n: int, labels: NDArray[np.int64] | None, seed: int) -> Splits:
    """Deal ``n`` samples into three splits, label by label.

    Parameters
    ----------
    n
        Number of samples.
    labels
        int64 ``[n]``, or ``None`` where there are none.
    seed
        Another seed deals otherwise.

    Returns
    -------
    Splits
        Disjoint and complete. Of a class with k samples, fit gets k/2 and select and report k/4
        each, to within one sample.

    Raises
    ------
    DataError
        Fewer than ``MINIMUM`` samples.
    """
    if n < MINIMUM:
        raise DataError(
            f"{n} sample{'s' * (n != 1)} can't be split into fit, select and report: "
            f"give at least {MINIMUM}"
        )
    order, _ = _by_class(n, labels, seed)
    part = np.empty(n, np.int64)
    part[order] = _PATTERN[np.arange(n) % len(_PATTERN)]
    fit, select, report = (np.flatnonzero(part == p) for p in (_FIT, _SELECT, _REPORT))
    return Splits(fit, select, report)


def some_of(
    indices: NDArray[np.int64], labels: NDArray[np.int64] | None, limit: int | None, seed: int
) -> NDArray[np.int64]:
    """Return at most ``limit`` of some samples, each class in proportion; see :func:`subset`.

    Without a limit it is all of them.

    Parameters
    ----------
    indices
        int64: the samples.
    labels
        int64: the labels of all samples that indices count, or ``None`` where there are none.
    """
    if limit is None:
        return indices
    own = None if labels is None else labels[indices]
    return indices[subset(len(indices), own, limit, seed)]


def subset(n: int, labels: NDArray[np.int64] | None, limit: int, seed: int) -> NDArray[np.int64]:
    """Choose ``limit`` of ``n`` samples, each class in proportion.

    Returns
    -------
    NDArray
        int64 ``[min(n, limit)]``, sorted. Of a class with k samples, k·limit/n are chosen, to
        within one.

    Raises
    ------
    UsageError
        ``limit`` is below 1.
    """
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}")
    if limit >= n:
        return np.arange(n)
    order, counts = _by_class(n, labels, seed)
    # Largest remainders: everyone gets the whole part, the biggest leftovers the rest.
    exact, leftover = np.divmod(counts * limit, n)
    by_leftover = np.argsort(-leftover, kind="stable")
    exact[by_leftover[: limit - int(exact.sum())]] += 1
    starts = np.cumsum(counts) - counts
    chosen = [order[s : s + k] for s, k in zip(starts, exact, strict=True)]
    return np.sort(np.concatenate(chosen))


def _by_class(
    n: int, labels: NDArray[np.int64] | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sample indices, class after class and shuffled within each, and the classes' sizes.

    The classes are shuffled too: ties between them must not always favour the first.
    """
    if labels is None:
        labels = np.zeros(n, np.int64)
    if labels.shape[:1] != (n,):
        raise ValueError(f"{n} samples but labels of shape {labels.shape}")
    # Of independent labels every combination is a class of its own.
    classes, which, counts = np.unique(labels, return_inverse=True, return_counts=True, axis=0)
    which = which.reshape(-1)
    rank = np.empty(len(classes), np.int64)
    shuffled = np.argsort(_keys(len(classes), ~seed), kind="stable")
    rank[shuffled] = np.arange(len(classes))
    order = np.lexsort((_keys(n, seed), rank[which]))
    return order.astype(np.int64), counts[shuffled].astype(np.int64)


def _keys(n: int, seed: int) -> NDArray[np.uint64]:
    """One well-mixed number for each of 0 … n−1: SplitMix64 (Steele, Lea, Flood; OOPSLA 2014)."""
    golden = 0x9E3779B97F4A7C15
    start = np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
    # Mixed once first: neighbouring seeds must not give the same stream, shifted.
    start = _mix(start)
    z = start + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(golden)
    return _mix(z)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
