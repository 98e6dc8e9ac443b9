"""Projected gradient descent."""

from __future__ import annotations

import numpy as np

from cloakify.attacks.base import Array, Attack, Labels, sample_generator
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel


class Pgd(Attack):
    """Steps of steepest ascent on the cross-entropy, projected back, from random starts.

    Madry et al., arXiv 1706.06083. Of several restarts the first that fools the model counts.

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
    seed
        Of the random starts.
    """

    name = "pgd"

    def __init__(
        self,
        *,
        steps: int = 10,
        step_size: float | None = None,
        restarts: int = 1,
        random_start: bool = True,
        seed: int = 0,
    ) -> None:
        self._steps = steps
        self.step_size = step_size
        self.restarts = restarts
        self.random_start = random_start
        self.seed = seed

    @property
    def steps(self) -> int:
        """Steps of each restart."""
        return self._steps

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`."""
        step_size = 2.5 * threat.eps / self.steps if self.step_size is None else self.step_size
        best = x.copy()
        waiting = np.arange(len(x))
        for restart in range(self.restarts):
            clean, labels = x[waiting], y[waiting]
            current = clean
            if self.random_start:
                current = random_start(clean, index[waiting], threat, self.seed, restart)
            current = target.ascend(current, labels, clean, threat, step_size, self.steps)
            best[waiting] = current
            if restart + 1 < self.restarts:
                waiting = waiting[target.correct(current, labels)]
                if len(waiting) == 0:
                    break
        return best


def random_start(
    clean: Array, index: Labels, threat: ThreatModel, seed: int, restart: int
) -> Array:
    """Return a random point of ball and box for each sample.

    linf: uniform in the cube. l2: uniform direction, and a radius whose density makes the point
    uniform in the ball.
    """
    noise = np.empty(clean.shape, np.float32)
    for row, sample in enumerate(index):
        generator = sample_generator(seed, int(sample), restart)
        if threat.norm == "linf":
            noise[row] = generator.uniform(-1, 1, clean.shape[1:])
        else:
            direction = generator.standard_normal(clean.shape[1:])
            direction /= np.sqrt(np.square(direction).sum())
            noise[row] = direction * generator.uniform() ** (1 / direction.size)
    return threat.project(clean + noise * threat.radius, clean)
