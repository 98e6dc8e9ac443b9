"""Auto-PGD that goes through larger balls than the one it has to end in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks.apgd import Apgd
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels

# Steps from which on it pays to go through larger balls: with 20 what withstands in l2 is more, on
# three of four sample models, than Auto-PGD in the ball alone leaves; with 100 it is less on each.
_FAR = 60


class Schedule(NamedTuple):
    """Steps at ε that end where they fool, at 3ε and 2ε each, and at ε again."""

    direct: int
    wide: int
    last: int


class ApgdMulti(Apgd):
    """Auto-PGD on the cross-entropy; what withstands, in balls of 3ε, 2ε and ε in turn.

    Each ball is gone on in from the highest point of the one before, moved into it: the multi-ε
    scheme of Croce & Hein, arXiv 2103.01208, which they have for l1. A sixth of the steps goes
    ahead in the ball itself, as most samples fall soon. A model that was trained in linf may have
    slopes towards what fools it in l2 only further out: of 400 images of such a sample model 38
    withstand one such run, 31 two, 91 as many steps in the ball alone, and 49 AutoAttack without
    Square.

    Parameters
    ----------
    steps
        Of all balls together, in each run.
    restarts
        How often to go through them, from another random point each time.
    stop_early, seed
        As for :class:`Apgd`.
    """

    name = "apgd-multi"

    def __init__(
        self, *, steps: int = 100, restarts: int = 1, stop_early: bool = True, seed: int = 0
    ) -> None:
        super().__init__(steps=steps, restarts=restarts, stop_early=stop_early, seed=seed)

    def _run(
        self,
        target: Target,
        samples: tuple[Array, Labels, Labels],
        threat: ThreatModel,
        fooled: NDArray[np.bool_] | None = None,
        onward: int | None = None,
        begin: Array | None = None,
    ) -> Array:
        steps = schedule(self.steps)
        if not steps.direct:
            return super()._run(target, samples, threat, fooled, onward, begin)
        x, y, index = samples
        flags = np.zeros(len(x), np.bool_)
        attacked = x.copy()
        # What is driven as far as it goes, and not asked where it fell, goes the whole way.
        if self.stop_early or fooled is not None:
            direct = self._with(steps.direct)
            attacked = direct._run(target, samples, threat, flags, onward, begin)
        left = ~flags if fooled is not None or not self.stop_early else target.correct(attacked, y)
        rows = np.flatnonzero(left)
        for number in range(self.restarts):
            if not len(rows):
                break
            part, fell = (x[rows], y[rows], index[rows]), np.zeros(len(rows), np.bool_)
            start = self._from_afar(target, part, threat, steps.wide, self.seed + number)
            there = self._with(steps.last)._run(target, part, threat, fell, onward, start)
            if number:
                better = self._is_higher(target, attacked[rows], there, y[rows])
                # What is driven as far as it goes counts by its loss alone.
                better |= fell & self.stop_early
                there = np.where(better.reshape(-1, *[1] * (x.ndim - 1)), there, attacked[rows])
            attacked[rows] = there
            flags[rows] |= fell
            rows = rows[~fell] if self.stop_early else rows
        if fooled is not None:
            fooled |= flags
        return attacked

    def _from_afar(
        self,
        target: Target,
        samples: tuple[Array, Labels, Labels],
        threat: ThreatModel,
        steps: int,
        seed: int,
    ) -> Array:
        """Return points of ball and box that are reached by way of the larger balls."""
        x, y, index = samples
        widest, wide = (threat.with_eps(radius * threat.eps) for radius in (3, 2))
        apgd = Apgd(steps=steps, stop_early=False, seed=seed)
        at = apgd.run(target, x, y, index, widest)
        at = apgd.resume(target, x, y, index, wide, wide.project(at, x))
        return threat.project(at, x)

    def _is_higher(self, target: Target, one: Array, other: Array, y: Labels) -> NDArray[np.bool_]:
        """Tell of each sample whether the loss is higher at the other of two points."""
        loss = self.loss_for(target.num_choices)
        before, now = (target.evaluate(points, y, loss).loss for points in (one, other))
        higher: NDArray[np.bool_] = now > before
        return higher

    def _with(self, steps: int) -> Apgd:
        """Return plain Auto-PGD that stops where this one does."""
        return Apgd(steps=steps, stop_early=self.stop_early, seed=self.seed)


def schedule(steps: int) -> Schedule:
    """Return how many steps each ball has; fewer than six have the ball itself alone."""
    if steps < 6:
        return Schedule(0, 0, steps)
    direct, wide = steps // 6, steps // 4
    return Schedule(direct, wide, steps - direct - 2 * wide)


def untargeted(norm: str, steps: int) -> str:
    """Return the name of the untargeted Auto-PGD that leaves least with so many steps."""
    return (ApgdMulti if norm == "l2" and steps >= _FAR else Apgd).name
