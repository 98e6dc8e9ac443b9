"""Which other classes are worth an attack: those whose border is nearest, not largest logits."""

from __future__ import annotations

import numpy as np

from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels
from cloakify.numeric.judging import nearest_rivals
from cloakify.numeric.norms import dual_lengths

# For each class that is asked for, the gradient of so many is looked at, those of the largest
# logits; it costs as much as a step.
CANDIDATES = 3


def steepest_rivals(
    target: Target, x: Array, y: Labels, logits: Array, threat: ThreatModel, count: int
) -> Labels:
    """Return for each sample the rivals whose border is nearest to first order, the nearest first.

    Melamed, Bubeck & Vardi's mesoscopic linearity (MALT, arXiv 2407.02240, algorithm 1): towards
    class t the margin Z_y − Z_t falls by at most ``‖∇(Z_t − Z_y)‖*`` over a move of length 1, so
    that the quotient of the two is a distance; the norm is the dual one of the threat model. Of
    equally near ones that of the larger logit comes first, and last come those without a slope.

    Parameters
    ----------
    logits
        Of the samples, [n, C].
    count
        How many to return at most.

    Returns
    -------
    int64 [n, min(count, R)] of R rivals.

    Raises
    ------
    NoGradientError
        No gradient reaches the input.
    """
    candidates = nearest_rivals(logits, y, CANDIDATES * count)
    if not len(x) or candidates.shape[1] <= 1:
        return candidates[:, :count]
    distances = np.empty(candidates.shape)
    for place, towards in enumerate(candidates.T):
        margins = target.evaluate(x, y, "targeted-margin", np.ascontiguousarray(towards))
        slope = dual_lengths(margins.gradient.astype(np.float64) * threat.factor, threat.norm)
        with np.errstate(divide="ignore", invalid="ignore"):
            distances[:, place] = np.where(slope > 0, -margins.loss / slope, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    nearest: Labels = np.take_along_axis(candidates, order, axis=1)
    return nearest
