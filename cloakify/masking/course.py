"""Which samples each step of a tuning learns from."""

from __future__ import annotations

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
    """The samples of all steps: the folds in turn, each shuffled anew when it is through.

    Parameters
    ----------
    folds
        Which samples there are.
    plan
        How many steps, of how many samples.
    """

    def __init__(self, folds: Sequence[Labels], plan: TuningPlan) -> None:
        self._plan = plan
        self._orders = [
            _order(fold, len(range(place, plan.steps, len(folds))), plan)
            for place, fold in enumerate(folds)
        ]

    def draw(self, step: int) -> Draw:
        """Return the samples of a step, counted from 0."""
        plan, (turn, fold) = self._plan, divmod(step, len(self._orders))
        index = self._orders[fold][turn * plan.batch_size : (turn + 1) * plan.batch_size]
        if not plan.mix:
            return Draw(index)
        # Told from the order's generators by a third number, and the same when a run goes on.
        generator = np.random.default_rng([plan.seed, step, 1])
        rows, share = draw_mixtures(len(index), generator)
        return Draw(index, index[rows], floats(share))


def _order(fold: Labels, steps: int, plan: TuningPlan) -> Indices:
    """Return the samples of one fold in the order of its steps."""
    wanted = steps * plan.batch_size
    rounds = max(1, -(-wanted // len(fold)))
    return np.concatenate(
        [np.random.default_rng([plan.seed, number]).permutation(fold) for number in range(rounds)]
    )[:wanted]
