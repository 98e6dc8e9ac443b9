"""Does a model know independent labels at all? Judged by how it ranks the samples, label by label.

A label that holds for few samples is right most of the time whatever the model says, so accuracy
tells little. The area under the ROC curve tells how often a sample with the label is ranked above
one without it; half is a guess. For a guessing model it has the variance of the Mann–Whitney
statistic, (P + Q + 1) / (12 P Q) of P and Q samples with and without the label (H. B. Mann &
D. R. Whitney, Annals of Mathematical Statistics 18, 1947).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.numeric.arrays import Array, Labels

# Standard errors of a mean of ranks above one half that exclude guessing: 95 %, both sides.
SURE = 1.959963984540054

# Mean area from which on nothing needs explaining: what Landis & Koch call slight, of the way from
# chance to certainty.
SLIGHT = 0.6


@dataclass(frozen=True)
class LabelRanking:
    """How well samples are ranked.

    Attributes
    ----------
    area
        The mean area under the ROC curve over the labels that some samples have and others not.
    error
        Its standard error for a model that guesses, all labels as one: they may say the same.
    counted
        How many labels that is.
    """

    area: float
    error: float
    counted: int

    @property
    def is_low(self) -> bool:
        """Whether guessing is not excluded, or the ranking is hardly better."""
        sure = self.area - SURE * self.error > 0.5
        return not (sure and self.area >= SLIGHT)


def rank_labels(logits: Array, y: Labels) -> LabelRanking | None:
    """Measure how logits [n, K] rank samples with labels [n, K]; ``None`` where none can be."""
    # Not at the top: half a second, and most models never need it.
    from scipy.stats import rankdata

    areas, errors = [], []
    for label in range(y.shape[1]):
        holds = y[:, label] == 1
        with_it, without = int(holds.sum()), int((~holds).sum())
        if not with_it or not without:
            continue
        # The rank sum less its least value, of P·Q pairs; equal ones count half.
        ranks = rankdata(logits[:, label])
        above = float(ranks[holds].sum()) - with_it * (with_it + 1) / 2
        areas.append(above / (with_it * without))
        errors.append(np.sqrt((with_it + without + 1) / (12 * with_it * without)))
    if not areas:
        return None
    return LabelRanking(float(np.mean(areas)), float(np.mean(errors)), len(areas))
