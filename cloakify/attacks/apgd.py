"""Auto-PGD, untargeted: the step size finds itself."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks.base import Attack, not_fooled
from cloakify.attacks.lanes import Iteration, Job, Rows, Runner, run_lanes
from cloakify.attacks.leading import leaders, led_by_near_steps
from cloakify.attacks.starts import random_on_sphere
from cloakify.attacks.target import Target
from cloakify.attacks.target_order import steepest_rivals
from cloakify.attacks.threat import ThreatModel
from cloakify.graph.attack_steps import apgd_step as state
from cloakify.graph.attack_steps.build import LABELS, TARGETS
from cloakify.graph.attack_steps.steps import CLEAN
from cloakify.numeric.arrays import Array, Labels
from cloakify.numeric.judging import is_right, nearest_rivals

# arXiv 2003.01690, section 4: α of the momentum term, ρ of condition 1.
ALPHA = 0.75
RHO = 0.75


class Apgd(Attack):
    """Auto-PGD on the cross-entropy.

    Croce & Hein, arXiv 2003.01690, algorithm 1: per sample, steps of 2ε that are halved at
    checkpoints where the loss has not risen enough, each time going on from the best point, with a
    momentum term. A sample that is misclassified as it is comes back unchanged; one that no restart
    fools comes back as the point of the highest loss.

    Parameters
    ----------
    steps
        Steps of each restart; 100 in the paper.
    restarts
        How often to start.
    stop_early
        Return a sample as soon as it fools the model. Without, every sample, misclassified ones
        too, takes all its steps and comes back as the point of the highest loss, which serves
        where it is to be tried on another model.
    seed
        Of the random starts.
    """

    name = "apgd"
    loss: ClassVar[str] = "ce"
    straight_through: ClassVar[bool] = False

    def __init__(
        self, *, steps: int = 100, restarts: int = 1, stop_early: bool = True, seed: int = 0
    ) -> None:
        self._steps = steps
        self.restarts = restarts
        self.stop_early = stop_early
        self.seed = seed

    @property
    def steps(self) -> int:
        """Steps of each restart."""
        return self._steps

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`."""
        return self._run(target, (x, y, index), threat)

    def resume(
        self,
        target: Target,
        x: Array,
        y: Labels,
        index: Labels,
        threat: ThreatModel,
        begin: Array,
    ) -> Array:
        """See :meth:`Attack.resume`; restarts but the first are random ones."""
        return self._run(target, (x, y, index), threat, begin=begin)

    def explore(
        self,
        target: Target,
        x: Array,
        y: Labels,
        index: Labels,
        threat: ThreatModel,
        onward: int | None = None,
    ) -> tuple[Array, NDArray[np.bool_]]:
        """See :meth:`Attack.explore`."""
        flags = np.zeros(len(x), np.bool_)
        return self._run(target, (x, y, index), threat, flags, onward), flags

    def loss_for(self, classes: int) -> str:
        """Return the loss to ascend, a key of :data:`cloakify.graph.attack_steps.losses.LOSSES`."""
        return self.loss

    def _run(
        self,
        target: Target,
        samples: tuple[Array, Labels, Labels],
        threat: ThreatModel,
        fooled: NDArray[np.bool_] | None = None,
        onward: int | None = None,
        begin: Array | None = None,
    ) -> Array:
        settings = ApgdSettings(
            loss=self.loss_for(target.num_choices),
            steps=self.steps,
            restarts=self.restarts,
            stop_early=self.stop_early,
            seed=self.seed,
            straight_through=self.straight_through,
        )
        return run_apgd(target, samples, threat, settings, fooled, onward, begin)


class ApgdDlr(Apgd):
    """Auto-PGD on the difference of logits ratio (arXiv 2003.01690, equation 6).

    The ratio needs three classes; with two the margin takes its place.
    """

    name = "apgd-dlr"
    loss = "dlr"

    def loss_for(self, classes: int) -> str:
        """See :meth:`Apgd.loss_for`."""
        return "dlr" if classes >= 3 else "margin"


class ApgdBpda(Apgd):
    """Auto-PGD on the cross-entropy, its gradient straight through steps and levels.

    Quantisers, dead zones, hard clips and whatever else has a derivative that hides what it does
    are gone back through by secants that span the step (BPDA: Athalye, Carlini & Wagner, arXiv
    1802.00420, section 4.1; :mod:`~cloakify.graph.gradient.secant`), and once more what is left,
    by those of the steps that are near (:mod:`~cloakify.attacks.leading`). Where a
    model bends the scores of a layer that answers as it does, these lead. All points lie a hair
    inside ball and box, where a bend on the border hides nothing. The shipped graph is what is
    judged.
    """

    name = "apgd-bpda"
    straight_through = True

    def _run(
        self,
        target: Target,
        samples: tuple[Array, Labels, Labels],
        threat: ThreatModel,
        fooled: NDArray[np.bool_] | None = None,
        onward: int | None = None,
        begin: Array | None = None,
    ) -> Array:
        x, y, index = samples
        attacked = x.copy()
        again = copy(self)
        again.seed += 1
        for leader, rows in leaders(target, x, y):
            flags = np.zeros(len(rows), np.bool_)
            start = None if begin is None else begin[rows]
            part = (x[rows], y[rows], index[rows])
            attacked[rows] = super()._run(leader, part, threat, flags, onward, start)
            if fooled is not None:
                fooled[rows] |= flags
            # What is driven as far as it goes goes one way.
            left = rows[target.correct(attacked[rows], y[rows])] if self.stop_early else rows[:0]
            if len(left):
                part = (x[left], y[left], index[left])
                attacked[left] = Apgd._run(again, led_by_near_steps(leader), part, threat)
        return attacked


@dataclass(frozen=True, kw_only=True)
class ApgdSettings:
    """How Auto-PGD is run; see :class:`Apgd`.

    Attributes
    ----------
    loss
        A key of :data:`cloakify.graph.attack_steps.losses.LOSSES`.
    num_targets
        Unless 0 the loss is a targeted one, and each sample is led towards that many other classes
        in turn, those of the largest logits first, ``restarts`` times each.
    by_slope
        Take those first whose border is nearest to first order.
    """

    loss: str
    steps: int
    restarts: int
    stop_early: bool
    seed: int
    num_targets: int = 0
    by_slope: bool = False
    straight_through: bool = False


def run_apgd(
    target: Target,
    samples: tuple[Array, Labels, Labels],
    threat: ThreatModel,
    settings: ApgdSettings,
    fooled: NDArray[np.bool_] | None = None,
    onward: int | None = None,
    begin: Array | None = None,
) -> Array:
    """Run Auto-PGD on x, y and index; see :class:`Apgd`.

    In ``fooled``, bool [n], is set where an iterate fools the gradient graph, or the run was not
    looked at. For ``onward`` see :meth:`Attack.explore`; it counts without ``stop_early``. For
    ``begin`` see :meth:`Apgd.resume`.
    """
    x, y, _ = samples
    through, early = settings.straight_through, settings.stop_early
    allowed = threat.inside(x[0].size) if through and len(x) else threat
    # Whoever has points to go on from knows what the target is right on.
    known = not settings.num_targets and (begin is not None or not early)
    logits = np.empty(0, np.float32) if known else target.logits(x)
    worthwhile = is_right(logits, y) if early and not known else np.ones(len(x), np.bool_)
    rows = np.flatnonzero(worthwhile)

    def tried() -> _Run:
        iteration = target.iteration(
            x.shape[1:], "apgd", settings.loss, allowed, straight_through=through
        )
        run = _Run(iteration, samples, allowed, settings)
        run.onward, run.begin = onward, begin
        if settings.num_targets:
            run.targets = nearest_rivals(logits, y, settings.num_targets)
            if settings.by_slope:
                at = (x[rows], y[rows], logits[rows])
                run.targets[rows] = steepest_rivals(target, *at, threat, settings.num_targets)
            run.runs *= run.targets.shape[1]
        run_lanes(run.iteration, run, [Job(int(row), 0) for row in rows])
        return run

    run = target.within_memory(tried)
    if fooled is not None:
        fooled |= run.ever | ~worthwhile
    # Where the shipped graph rounds otherwise, in 16 bits above all, what fools the gradient graph
    # by a hair need not fool it: those samples go all the way.
    left = not_fooled(target, run.adversarial, y, run.fooled)
    if len(left):
        part = (x[left], y[left], samples[2][left])
        run.adversarial[left] = run_apgd(target, part, threat, replace(settings, stop_early=False))
    return run.adversarial


def checkpoints(steps: int) -> list[int]:
    """Return the iterations w_1 < w_2 < … after which the step size is looked at.

    arXiv 2003.01690, section 4: w_j = ⌈p_j·steps⌉, p_0 = 0, p_1 = 0.22,
    p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06). Each distance is rounded on its own and at
    least 1, as in its authors' program; for 100 steps: 22, 41, 57, 70, 80, 87, 93, 99.
    """
    distance, least, shrink = (max(steps * share // 100, 1) for share in (22, 6, 3))
    places = []
    place = distance
    while place <= steps:
        places.append(place)
        distance = max(distance - shrink, least)
        place += distance
    return places


class _Run(Runner):
    """One run of Auto-PGD."""

    def __init__(
        self,
        iteration: Iteration,
        samples: tuple[Array, Labels, Labels],
        threat: ThreatModel,
        settings: ApgdSettings,
    ) -> None:
        self.x, self.y, self.index = samples
        self.threat, self.seed, self.stop_early = threat, settings.seed, settings.stop_early
        steps = settings.steps
        # The start is looked at too.
        self.evaluations = steps + 1
        self.iteration = iteration
        self.adversarial = self.x.copy()
        self.fooled = np.zeros(len(self.x), np.bool_)
        self.ever = np.zeros(len(self.x), np.bool_)
        self.highest = np.full(len(self.x), -np.inf)
        self.runs = settings.restarts
        self.targets: Labels | None = None
        self.begin: Array | None = None
        places = [0, *checkpoints(steps)]
        self.thresholds = np.zeros(steps + 2, np.float32)
        self.thresholds[places[1:]] = RHO * np.diff(places)
        self.inertia = np.full(steps + 2, ALPHA, np.float32)
        # The first step has no momentum to add.
        self.inertia[0] = 1

    def start(self, jobs: Sequence[Job]) -> Rows:
        rows = np.array([job.row for job in jobs])
        numbers = np.array([job.number for job in jobs])
        clean, begin = self.x[rows], self._begin(rows, numbers)
        ones = np.ones(len(jobs), np.float32)
        first: Rows = {
            self.iteration.x: begin,
            CLEAN: clean,
            LABELS: self.y[rows],
            state.PREVIOUS: begin,
            state.BEST: begin,
            state.BEST_GRADIENT: begin,
            state.BEST_LOSS: -np.inf * ones,
            state.LAST_LOSS: np.inf * ones,
            state.STEP_SIZES: 2 * np.float32(self.threat.eps) * ones,
            state.RISES: 0 * ones,
            state.CHECKED_LOSS: -np.inf * ones,
            state.HALVED: ones,
        }
        if self.targets is not None:
            restarts = self.runs // self.targets.shape[1]
            first[TARGETS] = self.targets[rows, numbers // restarts]
        return first

    def _begin(self, rows: Labels, numbers: Labels) -> Array:
        """Return where runs of these numbers begin: at random, but for the first if it is given."""
        drawn = (numbers > 0) | (self.begin is None)
        begin: Array = (self.x if self.begin is None else self.begin)[rows]
        at = rows[drawn]
        begin[drawn] = random_on_sphere(
            self.x[at], self.index[at], numbers[drawn], self.threat, self.seed
        )
        return begin

    def control(self, age: NDArray[np.int64]) -> Rows:
        return {state.INERTIA: self.inertia[age], state.THRESHOLD: self.thresholds[age]}

    def finish(self, jobs: Sequence[Job], fooled: NDArray[np.bool_], rows: Rows) -> list[Job]:
        further = []
        best_loss = rows[state.BEST_LOSS]
        for lane, job in enumerate(jobs):
            self.ever[job.row] |= fooled[lane]
            if self.stop_early and fooled[lane]:
                self.adversarial[job.row] = cast(Array, rows[self.iteration.x])[lane]
                self.fooled[job.row] = True
                continue
            if best_loss[lane] > self.highest[job.row]:
                self.highest[job.row] = best_loss[lane]
                self.adversarial[job.row] = cast(Array, rows[state.BEST])[lane]
            if job.number + 1 < self.runs:
                further.append(Job(job.row, job.number + 1))
        return further
