"""Fast adaptive boundary attack, targeted: the nearest misclassified point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks.base import Attack
from cloakify.attacks.fields import at, joined
from cloakify.attacks.jobs import Jobs, share_jobs
from cloakify.attacks.projection import to_hyperplane
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels, as_rows
from cloakify.numeric.judging import is_right, nearest_rivals
from cloakify.numeric.norms import lengths


class FabT(Attack):
    """Walk along the decision boundary towards the sample, for one other class after another.

    Croce & Hein, arXiv 1907.02044, algorithm 1 with the targeted boundary of AutoAttack (arXiv
    2003.01690, section 5): in each iteration the boundary between label and target class is taken
    as a hyperplane; iterate and sample are projected onto it within the box, and the next iterate
    lies between the two, a little beyond. Once misclassified, it goes back towards the sample.

    A sample that is misclassified as it is comes back unchanged; one whose nearest misclassified
    point is too far comes back as that point's projection to ball and box.

    Parameters
    ----------
    steps
        Iterations for each target class.
    num_targets
        How many classes to try, those of the largest logits; at most all the others.
    stop_early
        Be content with a misclassified point within the budget. Without, look for the nearest.
    straight_through
        Take the boundary as :class:`~cloakify.attacks.apgd.ApgdBpda` takes the loss.
    """

    name = "fab-t"

    def __init__(
        self,
        *,
        steps: int = 100,
        num_targets: int = 9,
        stop_early: bool = True,
        straight_through: bool = False,
    ) -> None:
        self._steps = steps
        self.num_targets = num_targets
        self.stop_early = stop_early
        self.straight_through = straight_through

    @property
    def steps(self) -> int:
        """Iterations for each target class."""
        return self._steps

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`."""
        return threat.project(self.nearest(target, x, y, threat), x)

    def nearest(self, target: Target, x: Array, y: Labels, threat: ThreatModel) -> Array:
        """Return the nearest misclassified point for each sample, however far.

        The sample itself where it is misclassified, and where there is none. Of the
        threat model, norm and box count, and ε only with ``stop_early``.
        """
        logits = target.logits(x)
        right = is_right(logits, y)
        targets = nearest_rivals(logits, y, self.num_targets)
        nearest, distance = x.copy(), np.full(len(x), np.inf)

        def work(mine: Jobs[tuple[int, int]]) -> None:
            walk = _Walk(self, target, threat, nearest, distance)
            while True:
                mine.check()
                jobs = mine.take(target.batch_size - len(walk.lanes.row))
                if jobs:
                    rows, numbers = np.array(jobs).T
                    walk.add(rows, numbers, x[rows], y[rows], targets[rows, numbers])
                if not len(walk.lanes.row):
                    return
                walk.advance()
                mine.add(
                    (row, number + 1)
                    for row, number in walk.take_finished()
                    if number + 1 < targets.shape[1]
                )

        share_jobs(target.workers, [(int(row), 0) for row in np.flatnonzero(right)], work)
        return nearest


@dataclass(frozen=True)
class _Lanes:
    """The samples under way: where they are, target numbers, labels, targets, ages and points."""

    row: Labels
    number: Labels
    y: Labels
    towards: Labels
    age: Labels
    clean: Array
    x: Array


class _Walk:
    """One worker's walks. Distances and moves are in data units.

    What they find, and how far that is, goes to ``nearest`` and ``distance``, which all share.
    """

    # Section 4 of arXiv 1907.02044: largest weight of the sample's projection, step beyond the
    # boundary, and step back.
    alpha: ClassVar[float] = 0.1
    beyond: ClassVar[float] = 1.05
    back: ClassVar[float] = 0.9

    def __init__(
        self,
        attack: FabT,
        target: Target,
        threat: ThreatModel,
        nearest: Array,
        distance: NDArray[np.float64],
    ) -> None:
        self.attack, self.target, self.threat = attack, target, threat
        self.nearest, self.distance = nearest, distance
        none = np.zeros(0, np.int64)
        self.lanes = _Lanes(none, none, none, none, none, nearest[:0], nearest[:0])

    def add(self, row: Labels, number: Labels, clean: Array, y: Labels, towards: Labels) -> None:
        """Start from the samples themselves."""
        age = np.zeros(len(row), np.int64)
        self.lanes = joined(self.lanes, _Lanes(row, number, y, towards, age, clean, clean))

    def advance(self) -> None:
        """Take one iteration with every lane, and keep the misclassified points that are nearer."""
        lanes = self.lanes
        x = self._next()
        wrong = ~self.target.correct(x, lanes.y)
        distance = self.threat.distance(x, lanes.clean)
        nearer = wrong & (distance < self.distance[lanes.row])
        self.nearest[lanes.row[nearer]] = x[nearer]
        self.distance[lanes.row[nearer]] = distance[nearer]
        x[wrong] = lanes.clean[wrong] + (x[wrong] - lanes.clean[wrong]) * np.float32(self.back)
        self.lanes = _Lanes(
            lanes.row, lanes.number, lanes.y, lanes.towards, lanes.age + 1, lanes.clean, x
        )

    def take_finished(self) -> list[tuple[int, int]]:
        """Take out the lanes that are done; return row and target number of those not content."""
        lanes = self.lanes
        content = self.distance[lanes.row] <= self.threat.eps
        content &= self.attack.stop_early
        over = content | (lanes.age >= self.attack.steps)
        if not over.any():
            return []
        further = over & ~content
        self.lanes = at(lanes, ~over)
        return list(zip(lanes.row[further].tolist(), lanes.number[further].tolist(), strict=True))

    def _next(self) -> Array:
        lanes, threat = self.lanes, self.threat
        seen = self.target.evaluate(
            lanes.x,
            lanes.y,
            "targeted-margin",
            lanes.towards,
            straight_through=self.attack.straight_through,
        )
        factor = np.broadcast_to(threat.factor, lanes.x.shape).astype(np.float64)
        # All in moves away from the sample, in data units.
        here = as_rows((lanes.x - lanes.clean) / factor)
        slope = as_rows(seen.gradient * factor)
        low = as_rows((threat.lower - lanes.clean) / factor)
        high = as_rows((threat.upper - lanes.clean) / factor)
        rise = -seen.loss.astype(np.float64)
        from_here = to_hyperplane(
            slope, rise, np.minimum(low - here, 0), np.maximum(high - here, 0), threat.norm
        )
        rise_from_sample = rise + np.einsum("nd,nd->n", slope, here)
        from_sample = to_hyperplane(slope, rise_from_sample, low, high, threat.norm)
        near, far = lengths(from_here, threat.norm), lengths(from_sample, threat.norm)
        alpha = np.minimum(near / np.maximum(near + far, 1e-16), self.alpha)[:, None]
        move = (1 - alpha) * (here + self.beyond * from_here) + alpha * self.beyond * from_sample
        moved = lanes.clean + move.reshape(lanes.x.shape) * factor
        return np.clip(moved.astype(np.float32), threat.lower, threat.upper)
