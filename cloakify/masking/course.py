"""Which samples each step of a tuning learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.masking.mixing import Mixtures, mixed
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.numeric.arrays import Array, Indices, Labels

# Of so many steps how many are the first's, where several sets of samples are learned from.
FIRST, TURNS = 3, 5


@dataclass(frozen=True, eq=False)
class Draw:
    """The samples of a step.

    Attributes
    ----------
    index
        int64 [n]: which they are. One may be among them twice, where there are few.
    partner, share
        Which sample each is mixed with, int64 [n], and how much of it stays, float32 [n]; ``None``
        where nothing is mixed. A mixture keeps the label and the index of its own sample.
    mixture
        int64 [n]: which of its sample's mixtures each is.
    """

    index: Indices
    partner: Indices | None = None
    share: Array | None = None
    mixture: Indices | None = None

    def __len__(self) -> int:
        return len(self.index)

    def at(self, rows: Indices) -> Draw:
        """Return some of them."""
        if self.partner is None or self.share is None or self.mixture is None:
            return Draw(self.index[rows])
        return Draw(self.index[rows], self.partner[rows], self.share[rows], self.mixture[rows])

    @property
    def samples(self) -> Indices:
        """What has to be read: the samples, and behind them what they are mixed with."""
        return self.index if self.partner is None else np.concatenate([self.index, self.partner])

    def inputs(self, x: Array) -> Array:
        """Return what to learn from, [n, …], of what was read."""
        count = len(self)
        return x if self.share is None else mixed(x[:count], x[count:], self.share)


class Course:
    """The samples of all steps, each set shuffled anew when it is through.

    Parameters
    ----------
    folds
        The sets of samples that are learned from, each by parameters of its own. Where there are
        several, :data:`FIRST` of :data:`TURNS` steps are the first's, and the others share the rest
        in turn.
    plan
        How many steps, of how many samples.

    Attributes
    ----------
    folds
        How many sets there are.
    samples
        All samples, int64 [n], in ascending order.
    """

    def __init__(self, folds: Sequence[Labels], plan: TuningPlan) -> None:
        self._plan, self._lengths, self.folds = plan, [len(fold) for fold in folds], len(folds)
        counts = Counter(self.fold(step) for step in range(plan.steps))
        self._orders = [_order(fold, counts[place], plan) for place, fold in enumerate(folds)]
        self._mixtures = Mixtures.draw(folds, plan.mixtures, plan.seed)
        self.samples = self._mixtures.samples

    def fold(self, step: int) -> int:
        """Return which set of samples a step, counted from 0, learns from."""
        return self._turn(step)[0]

    def draw(self, step: int) -> Draw:
        """Return the samples of a step, counted from 0."""
        fold, turn = self._turn(step)
        size = self._plan.batch_size
        places = np.arange(turn * size, (turn + 1) * size)
        index = self._orders[fold][places]
        # Mixed otherwise each time that all have had their turn.
        return self._mixed(index, places // self._lengths[fold])

    def every(self) -> list[Draw]:
        """Return all that is ever drawn: the samples, or their first, second, … mixtures."""
        return [
            self._mixed(self.samples, np.full(len(self.samples), number))
            for number in range(max(1, self._plan.mixtures))
        ]

    def _mixed(self, index: Indices, number: Indices) -> Draw:
        """Return samples with their mixtures of such numbers, if any are mixed."""
        if not self._plan.mixtures:
            return Draw(index)
        mixture = number % self._plan.mixtures
        at = mixture, np.searchsorted(self.samples, index)
        return Draw(index, self._mixtures.partner[at], self._mixtures.share[at], mixture)

    def _turn(self, step: int) -> tuple[int, int]:
        """Return the set of a step, and how many steps before have learned from the same."""
        others = self.folds - 1
        if not others:
            return 0, step
        firsts = -(-FIRST * step // TURNS)
        if -(-FIRST * (step + 1) // TURNS) > firsts:
            return 0, firsts
        turn, other = divmod(step - firsts, others)
        return 1 + other, turn


def _order(fold: Labels, steps: int, plan: TuningPlan) -> Indices:
    """Return the samples of one fold in the order of its steps."""
    wanted = steps * plan.batch_size
    rounds = max(1, -(-wanted // len(fold)))
    return np.concatenate(
        [np.random.default_rng([plan.seed, number]).permutation(fold) for number in range(rounds)]
    )[:wanted]
