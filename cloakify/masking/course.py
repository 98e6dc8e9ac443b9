"""Which samples each step of a tuning learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.masking.mixing import draw_mixtures, mixed
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.numeric.arrays import Array, Indices, Labels, floats


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
    """

    index: Indices
    partner: Indices | None = None
    share: Array | None = None

    def __len__(self) -> int:
        return len(self.index)

    def at(self, rows: Indices) -> Draw:
        """Return some of them."""
        if self.partner is None or self.share is None:
            return Draw(self.index[rows])
        return Draw(self.index[rows], self.partner[rows], self.share[rows])

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
        several, every other step is the first's, and the others share the rest in turn.
    plan
        How many steps, of how many samples.
    """

    def __init__(self, folds: Sequence[Labels], plan: TuningPlan) -> None:
        self._plan, self._others = plan, len(folds) - 1
        counts = Counter(self.fold(step) for step in range(plan.steps))
        self._orders = [_order(fold, counts[place], plan) for place, fold in enumerate(folds)]

    def fold(self, step: int) -> int:
        """Return which set of samples a step, counted from 0, learns from."""
        turn, is_others = divmod(step, 2)
        return 1 + turn % self._others if self._others and is_others else 0

    def draw(self, step: int) -> Draw:
        """Return the samples of a step, counted from 0."""
        plan, order = self._plan, self._orders[self.fold(step)]
        turn = self._turn(step)
        index = order[turn * plan.batch_size : (turn + 1) * plan.batch_size]
        if not plan.mix:
            return Draw(index)
        # Told from the order's generators by a third number, and the same when a run goes on.
        generator = np.random.default_rng([plan.seed, step, 1])
        rows, share = draw_mixtures(len(index), generator)
        return Draw(index, index[rows], floats(share))

    def _turn(self, step: int) -> int:
        """Return how many steps before have learned from the same samples."""
        if not self._others:
            return step
        turn, is_others = divmod(step, 2)
        return turn // self._others if is_others else turn


def _order(fold: Labels, steps: int, plan: TuningPlan) -> Indices:
    """Return the samples of one fold in the order of its steps."""
    wanted = steps * plan.batch_size
    rounds = max(1, -(-wanted // len(fold)))
    return np.concatenate(
        [np.random.default_rng([plan.seed, number]).permutation(fold) for number in range(rounds)]
    )[:wanted]
