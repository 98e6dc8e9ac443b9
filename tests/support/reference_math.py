"""Elementwise operators and normalisations that onnx's reference evaluator gets wrong, in numpy.

Of the `onnx` package (1.23), `Erf` rounds to float, which `Gelu` inherits; `Mean` does not
broadcast its first input; `LRN` counts the batch where it means the channels; `LpNormalization`
leaves out the absolute value for p = 1; `GroupNormalization` and `MeanVarianceNormalization` round
to float.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx.reference.op_run import OpRun


def erf(x: np.ndarray) -> np.ndarray:
    """Return the error function in the dtype of x, computed in double."""
    return np.asarray(np.vectorize(math.erf, otypes=["d"])(x)).astype(x.dtype)


class Erf(OpRun):
    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (erf(x),)


class Gelu(OpRun):
    op_domain = ""

    def _run(self, x: np.ndarray, approximate: str | None = None) -> tuple[np.ndarray]:
        if approximate == "tanh":
            share = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
        else:
            share = erf(x / np.sqrt(2.0))
        return ((x * (1 + share) / 2).astype(x.dtype),)


class Mean(OpRun):
    op_domain = ""

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray]:
        total = sum(np.broadcast_arrays(*inputs))
        return (np.asarray(total / len(inputs), inputs[0].dtype),)


class LRN(OpRun):
    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        alpha: float = 1e-4,
        beta: float = 0.75,
        bias: float = 1.0,
        size: int = 1,
    ) -> tuple[np.ndarray]:
        below, above = (size - 1) // 2, math.ceil((size - 1) / 2)
        total = np.zeros_like(x)
        for channel in range(x.shape[1]):
            near = x[:, max(0, channel - below) : channel + above + 1]
            total[:, channel] = (near**2).sum(axis=1)
        return ((x / (bias + alpha / size * total) ** beta).astype(x.dtype),)


class LpNormalization(OpRun):
    op_domain = ""

    def _run(self, x: np.ndarray, axis: int = -1, p: int = 2) -> tuple[np.ndarray]:
        norm = (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
        return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0),)


class GroupNormalization(OpRun):
    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        bias: np.ndarray,
        epsilon: float = 1e-5,
        num_groups: int = 1,
        stash_type: int = 1,
    ) -> tuple[np.ndarray]:
        grouped = x.reshape(x.shape[0], num_groups, -1)
        grouped = grouped - grouped.mean(axis=2, keepdims=True)
        grouped = grouped / np.sqrt((grouped**2).mean(axis=2, keepdims=True) + epsilon)
        # One scale a channel since opset 21; before, one a group.
        repeats = x.shape[1] // len(scale)
        channels = (1, x.shape[1], *[1] * (x.ndim - 2))
        scale, bias = (np.repeat(value, repeats).reshape(channels) for value in (scale, bias))
        return ((grouped.reshape(x.shape) * scale + bias).astype(x.dtype),)


class MeanVarianceNormalization(OpRun):
    op_domain = ""

    def _run(self, x: np.ndarray, axes: Sequence[int] | None = None) -> tuple[np.ndarray]:
        over = tuple(axes or (0, 2, 3))
        centred = x - x.mean(axis=over, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=over, keepdims=True))
        return ((centred / (deviation + 1e-9)).astype(x.dtype),)


MATH = [
    Erf,
    Gelu,
    Mean,
    LRN,
    LpNormalization,
    GroupNormalization,
    MeanVarianceNormalization,
]
