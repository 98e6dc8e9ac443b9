"""What gates cost of clean accuracy, as the source and the gates themselves expect it.

Counting right answers before and after says little on a few hundred samples: whether the one or the
other answer is right where they differ is a matter of luck. What is expected of such a sample is
not: calibrated probabilities p tell it,

    cost = Σ_x p(the source's answer | x) − p(the answer with gates | x),

of which only the sample of x is left to chance (Rao-Blackwell). p is the softmax of a · the
source's logits + b · those with gates, with the a, b ≥ 0 of the highest likelihood: temperature
scaling (Guo, Pleiss, Sun and Weinberger, arXiv 1706.04599) of a logarithmic opinion pool (Heskes,
Selecting weighting factors in logarithmic opinion pools, NIPS 1997). The source alone would hold
nearly every other answer for wrong, and gates that make a model firmer are more often right where
they disagree than it can know. Where the labels are the source's own answers, a is as large as may
be, and every changed answer counts as lost.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax

from cloakify.numeric.arrays import Array, Doubles, Labels
from cloakify.numeric.judging import predicted, signs

# The largest weight that is tried; beyond, a probability is as good as certain.
MOST = 16.0

# In place of infinite logits, whose differences are no numbers.
HUGE = 1e6


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
        self._logits, self._labels = _finite(logits), labels
        self._independent = labels.ndim == 2
        self._answers = predicted(logits, independent=self._independent)

    def weights(self, logits: Array) -> Doubles:
        """Return the weights of the source's logits and of these, [2], by which labels are likely.

        Parameters
        ----------
        logits
            With gates, [n, C], which have not been tuned on the samples: what is learned by heart
            would seem to be sure.
        """
        pair = (self._logits, _finite(logits))

        def unlikely(weights: Doubles) -> tuple[float, Doubles]:
            mixed = weights[0] * pair[0] + weights[1] * pair[1]
            likely, slope = _likelihood_and_slope(mixed, self._labels)
            slopes = np.array([(slope * each).sum() for each in pair])
            return -likely.mean(), -slopes / len(mixed)

        optimum = minimize(
            unlikely,
            np.array([1.0, 0.0]),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, MOST)] * 2,
            options={"ftol": 1e-13, "gtol": 1e-9},
        )
        return np.asarray(optimum.x, np.float64)

    def of(self, logits: Array, weights: Doubles) -> Doubles:
        """Return for each sample by how much its answer by these logits is less likely, [n].

        No numbers are no answer.

        Parameters
        ----------
        logits
            With gates, [n, C].
        weights
            See :meth:`weights`.
        """
        mixed = weights[0] * self._logits + weights[1] * _finite(logits)
        answers = predicted(logits, independent=self._independent)
        lost, kept = (np.exp(_log_likelihood(mixed, each)) for each in (self._answers, answers))
        return lost - np.where(np.isnan(logits).any(axis=1), 0.0, kept)


def _log_likelihood(logits: Doubles, answers: Labels) -> Doubles:
    """Return the log-probability of answers [n], or of [n, K] all together, by logits."""
    if answers.ndim == 2:
        return np.asarray(log_expit(logits * signs(answers, logits.dtype)).sum(axis=1))
    return np.asarray(log_softmax(logits, axis=1)[np.arange(len(answers)), answers])


def _likelihood_and_slope(logits: Doubles, answers: Labels) -> tuple[Doubles, Doubles]:
    """Return :func:`_log_likelihood`, [n], and its gradient in the logits, of their shape."""
    if answers.ndim == 2:
        return _log_likelihood(logits, answers), np.asarray(answers - expit(logits))
    rows, logs = np.arange(len(answers)), log_softmax(logits, axis=1)
    slope: Doubles = -np.exp(logs)
    slope[rows, answers] += 1
    return np.asarray(logs[rows, answers]), slope


def _finite(logits: Array) -> Doubles:
    return np.nan_to_num(logits.astype(np.float64), posinf=HUGE, neginf=-HUGE)
