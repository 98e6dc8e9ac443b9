"""What gates cost of clean accuracy, as the source itself expects it.

Counting right answers before and after says little on a few hundred samples: whether the one or the
other answer is right where they differ is a matter of luck. What is expected of such a sample is
not: the source's probabilities p tell it, once they are calibrated,

    cost = Σ_x p(the source's answer | x) − p(the answer with gates | x),

of which only the sample of x is left to chance (Rao-Blackwell). p is the softmax of β·logits, β the
inverse temperature of the highest likelihood (Guo, Pleiss, Sun and Weinberger, arXiv 1706.04599).
Where the labels are the source's own answers, β is as large as may be, and every changed answer
counts as lost.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import log_expit, log_softmax

from cloakify.numeric.arrays import Array, Doubles, Labels
from cloakify.numeric.judging import predicted, signs

# Inverse temperatures that are tried; beyond, a probability is as good as certain, or as even.
LEAST, MOST = 1 / 16, 16.0
HALVINGS = 40

# In place of infinite logits, whose differences are no numbers.
HUGE = 1e30


class CleanCost:
    """The expected cost of other answers than the source's, on the same samples.

    Parameters
    ----------
    logits
        The source's, [n, C], or [n, K] of independent labels.
    labels
        int64 [n], or [n, K] of 0 and 1.
    """

    def __init__(self, logits: Array, labels: Labels) -> None:
        self._logits = np.nan_to_num(logits.astype(np.float64), posinf=HUGE, neginf=-HUGE)
        self._independent = labels.ndim == 2
        self.inverse_temperature = _most_likely(self._logits, labels)
        self._most = self._probability(self._answers(logits))

    def of(self, logits: Array) -> Doubles:
        """Return for each sample by how much its answer by these logits is less likely, [n].

        No numbers are no answer.
        """
        likely = self._probability(self._answers(logits))
        return self._most - np.where(np.isnan(logits).any(axis=1), 0.0, likely)

    def _answers(self, logits: Array) -> Labels:
        return predicted(logits, independent=self._independent)

    def _probability(self, answers: Labels) -> Doubles:
        return np.exp(log_likelihood(self.inverse_temperature * self._logits, answers))


def log_likelihood(logits: Doubles, answers: Labels) -> Doubles:
    """Return the log-probability of answers [n], or of [n, K] all together, by logits."""
    if answers.ndim == 2:
        return np.asarray(log_expit(logits * signs(answers, logits.dtype)).sum(axis=1))
    return np.asarray(log_softmax(logits, axis=1)[np.arange(len(answers)), answers])


def _most_likely(logits: Doubles, labels: Labels) -> float:
    """Return the inverse temperature of the highest likelihood, which is concave in it."""
    low, high = LEAST, MOST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _rises(lambda beta: log_likelihood(beta * logits, labels).sum(), middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _rises(function: Callable[[float], float], at: float) -> bool:
    step = 1e-4 * at
    return function(at + step) > function(at - step)
