"""How independent labels are answered, one by one: beside the exact match, which is the accuracy.

The accuracy of labels that few samples have says little, and so does a threshold; the average
precision of a label goes by the ranking of the samples alone:

    AP = Σ_k (R_k − R_{k−1}) P_k        over the ranks k, precision P and recall R

(as in information retrieval, and as scikit-learn has it, without interpolation; equal scores are
one rank). Intervals are those of the bootstrap over samples (B. Efron, Annals of Statistics 7,
1979; percentiles of 1,000 resamples): a sample's labels are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cloakify.errors import DataError
from cloakify.evaluation.figures import Figure, Share
from cloakify.numeric.arrays import Array, Doubles, Labels
from cloakify.numeric.judging import predicted

RESAMPLES = 1000
# Numbers in the working arrays.
CHUNK = 1 << 22
_SEED = 0


@dataclass(frozen=True)
class LabelFigures:
    """How K labels are answered on the same samples.

    ``accuracy`` is the share of right answers among those to all labels, ``by_label`` to each.
    ``mean_average_precision`` is over the labels that some samples have and others not; null where
    there is none.
    """

    accuracy: Figure
    mean_average_precision: Figure | None
    by_label: tuple[Share, ...]


def label_figures(logits: Array, y: Labels) -> LabelFigures:
    """Measure logits [n, K] against labels [n, K]; a logit that is no number ranks last.

    Raises
    ------
    DataError
        If there is no sample to measure on.
    """
    if not len(y):
        raise DataError("no samples to measure on: give more data or a larger --limit")
    right = (predicted(logits, independent=True) == y) & ~np.isnan(logits)
    shares = right.mean(axis=1)
    kept = np.flatnonzero((y.min(axis=0) == 0) & (y.max(axis=0) == 1))
    ranked = np.nan_to_num(logits[:, kept], nan=-np.inf)
    means, precisions = [], []
    for weights in _resamples(len(y)):
        means.append(weights @ shares / len(y))
        precisions.append(_mean_precision(ranked, y[:, kept], weights))
    whole = np.ones((1, len(y)))
    accuracy = _figure(float(shares.mean()), np.concatenate(means), len(y))
    precision: Figure | None = None
    if len(kept):
        value = float(_mean_precision(ranked, y[:, kept], whole)[0])
        precision = _figure(value, np.concatenate(precisions), len(y))
    return LabelFigures(accuracy, precision, tuple(right.mean(axis=0).tolist()))


def average_precision(scores: Array, y: Labels, weights: Doubles) -> Doubles:
    """Return the average precision of a label for each weighting of the samples.

    Parameters
    ----------
    scores, y
        [n] each.
    weights
        [B, n]: how often each sample counts.

    Returns
    -------
    [B]; NaN where no sample with the label counts.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))
    counted = np.cumsum(weights[:, order], axis=1)
    held = np.cumsum(weights[:, order] * y[order], axis=1)
    counted, held = counted[:, ends], held[:, ends]
    gained = np.diff(held, axis=1, prepend=0)
    with np.errstate(invalid="ignore"):
        precision: Doubles = (gained * held / np.maximum(counted, 1)).sum(axis=1) / held[:, -1]
    return precision


def _mean_precision(scores: Array, y: Labels, weights: Doubles) -> Doubles:
    """Return the mean over the labels [n, K] that some sample has, for each weighting."""
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for label in range(scores.shape[1]):
        precision = average_precision(scores[:, label], y[:, label], weights)
        known = ~np.isnan(precision)
        total[known] += precision[known]
        counted += known
    return total / np.maximum(counted, 1)


def _resamples(samples: int) -> Iterator[Doubles]:
    """Yield how often each sample is drawn in each resample, some resamples at a time."""
    generator = np.random.default_rng([_SEED, samples])
    step = max(1, CHUNK // samples)
    for start in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - start)
        drawn = generator.integers(0, samples, (count, samples))
        rows = np.arange(count)[:, None] * samples
        flat = np.bincount((drawn + rows).reshape(-1), minlength=count * samples)
        yield flat.reshape(count, samples).astype(np.float64)


def _figure(value: float, resampled: Doubles, samples: int) -> Figure:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Figure(value, min(float(low), value), max(float(high), value), samples)
