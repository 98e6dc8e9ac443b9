"""Does the order of the data's classes fit the model's? Judged by clean predictions alone.

Class folders sort by name, and a model counts its classes as it was trained. Where the two differ a
few classes may fall in place all the same, so that accuracy is low but above chance, and whatever
is measured then means nothing. In the confusion matrix of such a model every class stands out, only
not on the diagonal: an assignment of classes to labels explains far more than the given order.

The best of C! assignments always explains some noise as well. So it is found on nine tenths of the
samples and counted on the other tenth, ten times over (cross-validation, M. Stone, JRSS B 36,
1974): what is counted owes nothing to the choice. Both orders are right or wrong on the same
samples, which makes the exact McNemar test the one to ask. Among the classes that an order moves,
no sample is right by both, so that gains over losses is the ratio of the two accuracies there; an
honest model that takes cats for dogs and dogs for cats would need to do so far more often than not
to be taken for one with another order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cloakify.numeric.arrays import Counts, Labels
from cloakify.numeric.intervals import mcnemar, wilson

FOLDS = 10

# Of the McNemar test: of a thousand models in order fewer than one is suspected.
SURE = 1e-3

# How many times as accurate the moved classes must be, where the accuracy as such is no reason to
# doubt. In simulations honest models stay below 3.5; two classes of ten in each other's place lie
# above 4 from an accuracy of 40 % on.
TIMES = 4

# A cycle of classes that change places is believed from this evidence on.
LIKELY = 0.05
TWICE = 2

# Below this agreement beyond chance, Cohen's kappa for equally frequent classes, Landis & Koch
# (Biometrics 33, 1977) call the strength of an agreement slight.
SLIGHT = 0.2


@dataclass(frozen=True)
class BetterOrder:
    """An order of the classes that explains the predictions much better than the given one.

    Attributes
    ----------
    labels
        int64 [C]: at i the label that belongs to the model's class i.
    accuracy
        By that order, on samples that it was not found on.
    """

    labels: Labels
    accuracy: float


def find_better_order(labels: Labels, predictions: Labels, num_classes: int) -> BetterOrder | None:
    """Look for an order of the classes that explains much more than the given one.

    Parameters
    ----------
    labels, predictions
        int64 [n], each in 0 … ``num_classes`` − 1. Not every class need occur.

    Returns
    -------
    BetterOrder or None
        ``None`` where the given order is the best, or where the other one may be luck.
    """
    classes = np.unique(np.concatenate([labels, predictions]))
    y, p = np.searchsorted(classes, labels), np.searchsorted(classes, predictions)
    counts = _confusion(y, p, len(classes))
    if (counts.max(axis=1) <= counts.diagonal()).all():
        return None
    # Each fold takes its part of every class.
    fold = np.empty(len(y), np.int64)
    fold[np.argsort(y, kind="stable")] = np.arange(len(y)) % FOLDS
    moved = np.zeros(len(y), np.bool_)
    for number in range(FOLDS):
        held = fold == number
        rest = counts - _confusion(y[held], p[held], len(classes))
        moved[held] = _assignment(rest)[y[held]] == p[held]
    given = y == p
    gained, lost = int((moved & ~given).sum()), int((given & ~moved).sum())
    times = TWICE if is_low(int(given.sum()), len(y), num_classes) else TIMES
    if gained < times * lost or mcnemar(gained, lost) >= SURE:
        return None
    order = np.arange(num_classes)
    # _assignment leads from labels to the model's classes.
    order[classes[_assignment(counts)]] = classes
    return BetterOrder(order, float(moved.mean()))


def is_low(correct: int, count: int, num_classes: int) -> bool:
    """Tell whether an accuracy asks for an explanation.

    That is where guessing is not excluded: the Wilson score interval (E. B. Wilson, JASA 22, 1927)
    reaches chance, 1/C. And where the interval lies below a slight agreement, 1/C + 0.2·(1 − 1/C),
    and below 1/√C, which is half of the way from chance to certainty as information counts it: a
    model that is right on 15 % of a thousand classes knows much.
    """
    low, _ = wilson(correct, count)
    return low <= 1 / num_classes or is_surely_low(correct, count, num_classes)


def is_surely_low(correct: int, count: int, num_classes: int) -> bool:
    """Tell whether luck does not explain how low an accuracy is, however few samples there are.

    That is the second of the reasons of :func:`is_low`; the first holds of any few samples.
    """
    chance = 1 / num_classes
    least = min(chance + SLIGHT * (1 - chance), math.sqrt(chance))
    return wilson(correct, count)[1] < least


def _confusion(y: Labels, p: Labels, size: int) -> Counts:
    """Return how often label i gets prediction j: int64 [size, size]."""
    return np.bincount(y * size + p, minlength=size * size).reshape(size, size)


def _assignment(counts: Counts) -> Labels:
    """Return for each label the class that it is assigned: that which explains most of the counts.

    Of equal ones the given order; and cycles of classes that gain little stay as they are.
    """
    # Not at the top: half a second, and most models never need it.
    from scipy.optimize import linear_sum_assignment

    size = len(counts)
    _, assigned = linear_sum_assignment(2 * counts + np.eye(size, dtype=np.int64), maximize=True)
    chosen = np.arange(size)
    for cycle in _cycles(assigned):
        gained = int(counts[cycle, assigned[cycle]].sum())
        lost = int(counts[cycle, cycle].sum())
        if gained >= TWICE * lost and mcnemar(gained, lost) < LIKELY:
            chosen[cycle] = assigned[cycle]
    return chosen


def _cycles(permutation: Labels) -> list[Labels]:
    """Return the cycles of a permutation that move something."""
    cycles = []
    seen = permutation == np.arange(len(permutation))
    for start in range(len(permutation)):
        cycle = []
        place = start
        while not seen[place]:
            seen[place] = True
            cycle.append(place)
            place = int(permutation[place])
        if cycle:
            cycles.append(np.array(cycle))
    return cycles
