"""The figures of a report: a value, its 95 % interval and how many samples stand behind it.

>>> accuracy_figure(np.array([True, True, True, False]))  # doctest: +ELLIPSIS
Figure(value=0.75, low=0.300..., high=0.954..., n=4)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from cloakify.errors import DataError
from cloakify.numeric.intervals import agreed_difference, mcnemar, median_ranks, wilson

Share = Annotated[float, Meta(ge=0, le=1)]
Change = Annotated[float, Meta(ge=-1, le=1)]
Length = Annotated[float, Meta(ge=0)]
Samples = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Figure:
    """An accuracy with its 95 % interval (Wilson) and sample count."""

    value: Share
    low: Share
    high: Share
    n: Samples

    def to_dict(self) -> dict[str, float | int]:
        """Return the four fields under the names that the report uses."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies on the same samples, with its 95 % interval and sample count.

    The interval is Tango's, reaching 0 where the exact McNemar test does not reject 0.
    """

    value: Change
    low: Change
    high: Change
    n: Samples


@dataclass(frozen=True)
class PairedDifference:
    """Two models on the same samples: the difference of their accuracies and its exact test.

    ``gained`` and ``lost`` count the samples that only the second, or only the first model
    gets right; ``p_value`` is the exact two-sided McNemar test on them. The difference's interval
    excludes 0 just where that is below 0.05.
    """

    difference: Difference
    gained: Count
    lost: Count
    p_value: Share


@dataclass(frozen=True)
class Distance:
    """A median minimal distance with its 95 % interval; null lies beyond the search."""

    value: Length | None
    low: Length | None
    high: Length | None
    n: Samples


def accuracy_figure(correct: ArrayLike) -> Figure:
    """Accuracy with Wilson's interval.

    Parameters
    ----------
    correct
        bool [n], whether each sample was classified rightly.

    Raises
    ------
    DataError
        If there is no sample to measure on.
    """
    flags = _flags(correct)
    k = int(flags.sum())
    low, high = wilson(k, flags.size)
    return Figure(k / flags.size, low, high, flags.size)


def gain_figure(hardened_correct: ArrayLike, source_correct: ArrayLike) -> Difference:
    """Accuracy gained from source to hardened, with the interval of `agreed_difference`.

    Parameters
    ----------
    hardened_correct, source_correct
        bool [n] each, in the same order of the same samples.

    Raises
    ------
    DataError
        If there is no sample to measure on.
    ValueError
        If the two were not measured on the same number of samples.
    """
    return compare(hardened_correct, source_correct).difference


def compare(second_correct: ArrayLike, first_correct: ArrayLike) -> PairedDifference:
    """Second model minus first on the same samples, with interval and exact McNemar test.

    Parameters and exceptions are those of `gain_figure`.
    """
    second, first = _flags(second_correct), _flags(first_correct)
    if second.size != first.size:
        raise ValueError(f"a paired difference of {second.size} and {first.size} samples")
    gained = int((second & ~first).sum())
    lost = int((first & ~second).sum())
    low, high = agreed_difference(gained, lost, first.size)
    difference = Difference((gained - lost) / first.size, low, high, first.size)
    return PairedDifference(difference, gained, lost, mcnemar(gained, lost))


def median_distance(distances: ArrayLike) -> Distance:
    """Median of the smallest perturbations that fool a model, with a distribution-free interval.

    Parameters
    ----------
    distances
        float [n], in data units; 0 for a sample that is wrong unattacked, infinity for one that
        no perturbation fooled.

    Returns
    -------
    Distance
        With n < 6 no order statistics reach 95 %: the interval is then 0 to None.

    Raises
    ------
    DataError
        If there is no sample to measure on.
    ValueError
        If a distance is negative or NaN.
    """
    ordered = np.sort(np.asarray(distances, dtype=np.float64).ravel())
    if not ordered.size:
        raise DataError("no samples to measure on: give more data or a larger --limit")
    if not bool((ordered >= 0).all()):
        raise ValueError("a minimal distance is negative or NaN")
    n = ordered.size
    ranks = median_ranks(n)
    value = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    if ranks is None:
        return Distance(_finite(value), 0.0, None, n)
    return Distance(_finite(value), _finite(ordered[ranks[0]]), _finite(ordered[ranks[1]]), n)


def _finite(distance: float) -> float | None:
    return float(distance) if np.isfinite(distance) else None


def _flags(correct: ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(correct)
    if flags.dtype != np.bool_ or flags.ndim != 1:
        raise ValueError(f"correctness is a bool vector, not {flags.dtype} of shape {flags.shape}")
    if not flags.size:
        raise DataError("no samples to measure on: give more data or a larger --limit")
    return flags
