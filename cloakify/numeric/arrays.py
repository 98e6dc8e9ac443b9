"""The types of the arrays that are handed around, and what is done to batches everywhere."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""Samples, features, logits, masks."""

Doubles = NDArray[np.float64]
"""Sums, gradients of parameters, distances."""

Labels = NDArray[np.int64]
"""A class for each of n samples."""

Indices = NDArray[np.int64]
"""Which samples, or which features."""

Counts = NDArray[np.int64]
"""How many."""

Flags = NDArray[np.bool_]
"""Yes or no for each of n samples."""

AnyArray = NDArray[np.generic]
"""Of any type: what a model takes and returns."""

Element = TypeVar("Element", bound=np.generic)


def floats(array: AnyArray) -> Array:
    """Return an array as float32, without a copy where it is that already."""
    return array.astype(np.float32, copy=False)


def filled(rows: NDArray[Element], size: int) -> NDArray[Element]:
    """Repeat the last of some rows until there are ``size``: to a model any valid one will do."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing > 0 else rows


def in_chunks(indices: Indices, size: int) -> list[Indices]:
    """Cut indices into chunks of a size; the last one may be smaller."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def evenly(indices: Indices, most: int) -> Indices:
    """Choose so many of the indices, or all there are, evenly from first to last."""
    count = min(most, len(indices))
    return indices[np.arange(count) * len(indices) // max(1, count)]


def sigmoid(logits: Array) -> Array:
    """Return ``1 / (1 + exp −z)``, without overflow."""
    return floats((1 + np.tanh(logits / 2)) / 2)


def softmax(logits: Array, axis: int) -> Array:
    """Return ``exp z / Σ exp z`` along an axis, without overflow."""
    powers: Array = np.exp(logits - logits.max(axis=axis, keepdims=True))
    powers /= powers.sum(axis=axis, keepdims=True)
    return powers


def as_rows(values: NDArray[Element], count: int | None = None) -> NDArray[Element]:
    """Return values of n samples as [n, numbers of each]; where n is 0 a shape of -1 would not do.

    Parameters
    ----------
    values
        [n, …], or of any shape where ``count`` says n.
    count
        n.
    """
    samples = len(values) if count is None else count
    return values.reshape(
        samples, values.size // samples if samples else math.prod(values.shape[1:])
    )
