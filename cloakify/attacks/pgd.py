"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks.base import Attack, not_fooled
from cloakify.attacks.lanes import Job, Rows, Runner, run_lanes
from cloakify.attacks.starts import random_in_ball
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.graph.attack_steps.build import LABELS
from cloakify.graph.attack_steps.steps import CLEAN, DECAY, MOMENTUM, STEP_SIZE
from cloakify.numeric.arrays import Array, Labels


class Pgd(Attack):
    """Steps of steepest ascent on the cross-entropy, projected back, from random starts.

    Madry et al., arXiv 1706.06083. Of several restarts the first that fools the model counts; where
    none does, the last.

    Parameters
    ----------
    steps
        Steps of each restart.
    step_size
        In data units; 2.5·ε/steps when left out (the same paper's rule of thumb).
    restarts
        How often to start.
    random_start
        Whether to start at a random point of ball and box, or at the clean sample.
    momentum
        Decay μ of accumulated gradients (MI-FGSM, Dong et al., arXiv 1710.06081); 0 for none.
    stop_early
        Return a sample as soon as it fools the model. Without, every sample takes all its steps,
        which moves it further and serves where it is to be tried on another model.
    seed
        Of the random starts.
    """

    name = "pgd"
    # Step size times steps, in ε, where no step size is given.
    travel: ClassVar[float] = 2.5

    def __init__(
        self,
        *,
        steps: int = 10,
        step_size: float | None = None,
        restarts: int = 1,
        random_start: bool = True,
        momentum: float = 0.0,
        stop_early: bool = True,
        seed: int = 0,
    ) -> None:
        self._steps = steps
        self.step_size = step_size
        self.restarts = restarts
        self.random_start = random_start
        self.momentum = momentum
        self.stop_early = stop_early
        self.seed = seed

    @property
    def steps(self) -> int:
        """Steps of each restart."""
        return self._steps

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`."""

        def tried() -> _Run:
            runner = _Run(self, target, x, y, index, threat)
            run_lanes(runner.iteration, runner, [Job(row, 0) for row in range(len(x))])
            return runner

        runner = target.within_memory(tried)
        left = not_fooled(target, runner.adversarial, y, runner.fooled)
        if len(left):
            # As in Auto-PGD.
            on = copy(self)
            on.stop_early = False
            runner.adversarial[left] = on.run(target, x[left], y[left], index[left], threat)
        return runner.adversarial


class _Run(Runner):
    """One run of :class:`Pgd`."""

    def __init__(
        self,
        attack: Pgd,
        target: Target,
        x: Array,
        y: Labels,
        index: Labels,
        threat: ThreatModel,
    ) -> None:
        self.attack, self.target, self.threat = attack, target, threat
        self.x, self.y, self.index = x, y, index
        self.adversarial = x.copy()
        self.fooled = np.zeros(len(x), np.bool_)
        self.evaluations = attack.steps
        self.stop_early = attack.stop_early
        step_size = attack.step_size
        if step_size is None:
            step_size = attack.travel * threat.eps / attack.steps
        self.iteration = target.iteration(x.shape[1:], "momentum", "ce", threat).with_constants(
            {
                STEP_SIZE: np.array(step_size, np.float32),
                DECAY: np.array(attack.momentum, np.float32),
            }
        )

    def start(self, jobs: Sequence[Job]) -> Rows:
        rows = [job.row for job in jobs]
        clean = self.x[rows]
        current = clean
        if self.attack.random_start:
            numbers = [job.number for job in jobs]
            current = random_in_ball(
                clean, self.index[rows], numbers, self.threat, self.attack.seed
            )
        return {
            self.iteration.x: current,
            CLEAN: clean,
            LABELS: self.y[rows],
            MOMENTUM: np.zeros_like(clean),
        }

    def finish(self, jobs: Sequence[Job], fooled: NDArray[np.bool_], rows: Rows) -> list[Job]:
        last = cast(Array, rows[self.iteration.x])
        places = np.array([job.row for job in jobs])
        self.adversarial[places] = last
        self.fooled[places] = fooled & self.stop_early
        again = [
            (lane, job)
            for lane, job in enumerate(jobs)
            if job.number + 1 < self.attack.restarts and not fooled[lane]
        ]
        if not again:
            return []
        # The last iterate has not been through the graph yet.
        lanes = [lane for lane, _ in again]
        right = self.target.correct(last[lanes], self.y[places[lanes]])
        return [
            Job(job.row, job.number + 1)
            for (_, job), still in zip(again, right, strict=True)
            if still
        ]
