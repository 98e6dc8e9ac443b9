"""Choose the mask: a given ratio, or the best of all sizes within an accuracy budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.errors import GateError, UsageError
from cloakify.masking.curve import MaskCurve
from cloakify.printable import in_percent


@dataclass(frozen=True)
class MaskChoice:
    """A binary mask and why it was taken.

    Attributes
    ----------
    mask
        float32 [D], 0 for masked features.
    removed
        Indices of the masked features, ascending.
    score
        Name of the score that ranked them.
    """

    mask: NDArray[np.float32]
    removed: NDArray[np.int64]
    score: str

    @property
    def ratio(self) -> float:
        """Share of the features that is masked."""
        return len(self.removed) / len(self.mask)


def size_of_ratio(num_features: int, ratio: float) -> int:
    """Return how many features a ratio masks: ``⌊D·r⌋``, at least 1.

    Raises
    ------
    UsageError
        The ratio is not above 0 and below 1.
    """
    if not 0 < ratio < 1:
        raise UsageError(f"--mask-ratio takes a number between 0 and 1, or auto; not {ratio:g}")
    # The product of decimal fractions may fall a hair short of the integer that was meant.
    return max(1, math.floor(num_features * ratio + 1e-9))


def best_size(
    curve: MaskCurve, max_accuracy_drop: float, *, conservative: bool = False
) -> int | None:
    """Return the mask size with the best attacked accuracy within the budget, None where none is.

    Of equal sizes it is the smallest.

    Parameters
    ----------
    curve
        Counted on the select split.
    max_accuracy_drop
        How much clean accuracy may be lost, as a fraction of all samples.
    conservative
        Whether the loss is to be within the budget by a standard error, the root of the number of
        samples that masking has made right or wrong (as in McNemar's test). The best of thousands
        of sizes owes part of what it shows to luck.
    """
    lost = (curve.clean[0] - curve.clean[1:]).astype(float)
    if conservative:
        lost += np.sqrt(curve.changed[1:])
    allowed = lost <= max_accuracy_drop * curve.count + 1e-9
    if not allowed.any():
        return None
    return int(np.where(allowed, curve.attacked[1:], -1).argmax()) + 1


def refusal(curve: MaskCurve, max_accuracy_drop: float) -> GateError:
    """Return the error that says what the cheapest mask costs."""
    cheapest = int(curve.clean[1:].argmax()) + 1
    drop = (curve.clean[0] - curve.clean[cheapest]) / curve.count
    return GateError(
        f"every mask costs more than {in_percent(max_accuracy_drop)} of clean accuracy (the "
        f"cheapest, {cheapest} of {len(curve.ranking)} features, costs {in_percent(drop)}); no "
        "file was written"
    )


def choose(ranking: NDArray[np.int64], size: int, score: str) -> MaskChoice:
    """Mask the first ``size`` features of a ranking."""
    mask = np.ones(len(ranking), np.float32)
    mask[ranking[:size]] = 0
    return MaskChoice(mask, np.sort(ranking[:size]), score)
