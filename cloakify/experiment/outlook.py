"""How long a run will take, from what the first samples took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from cloakify.attacks import Apgd, Target, ThreatModel
from cloakify.data import Dataset
from cloakify.errors import NoGradientError
from cloakify.numeric.arrays import Indices, evenly, floats

# Steps of the attack on the first samples: most of what falls does so soon.
PILOT = 5
# Products of matrices that are timed.
REPEATED = 5
# Of the iterations that an attack may take, the share that it takes on samples that fall.
FALLEN = 0.25


@dataclass(frozen=True)
class Pace:
    """What a model takes for a sample on this machine, and what a short attack leaves.

    Attributes
    ----------
    opening
        Seconds until a graph with a gradient is built and open.
    forward, step
        Seconds of a forward pass, and of an iteration along the gradient.
    right
        Share of the samples that are classified rightly.
    left
        Share of them that also withstand a short attack, at each budget.
    product
        Seconds of a multiplication and an addition, in products of large matrices.
    """

    opening: float
    forward: float
    step: float
    right: float
    left: tuple[float, ...]
    product: float = 0.0

    def iterations(self, evaluations: int, budget: int = -1) -> float:
        """Return how often an attack that stops where it fools looks at a sample on average."""
        left = self.left[budget]
        return evaluations * (left + FALLEN * (self.right - left))


@dataclass(frozen=True)
class Work:
    """Passes through a model, of all samples together, and what else takes long.

    That is graphs with gradients to build, and products of matrices outside of the model, in
    multiplications.
    """

    forwards: float = 0.0
    steps: float = 0.0
    graphs: float = 0.0
    products: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def times(self, count: float) -> Work:
        """Return so many times as much."""
        return Work(*(mine * count for mine in astuple(self)))

    def seconds(self, pace: Pace) -> float:
        """Return how long this takes."""
        passes = self.forwards * pace.forward + self.steps * pace.step
        return passes + self.graphs * pace.opening + self.products * pace.product


@dataclass(frozen=True)
class Outlook:
    """What a run is about to do.

    Attributes
    ----------
    task
        In words.
    seconds
        How long that will take, as far as can be said.
    pace
        What that was reckoned from.
    """

    task: str
    seconds: float
    pace: Pace


def measure_pace(
    target: Target,
    threats: Sequence[ThreatModel],
    dataset: Dataset,
    indices: Indices,
    *,
    gradients: bool,
) -> Pace:
    """Run and attack as many samples as the device takes at once, from all over the data.

    Parameters
    ----------
    threats
        One for each budget, ascending.
    gradients
        Whether attacks will follow the gradient; without, a step costs what a forward pass does,
        and all samples are taken to stand. So where no gradient reaches the input.
    """
    chosen = evenly(indices, target.batch_size * target.workers.count)
    count, batch = len(chosen), dataset.batch(chosen)
    x, y = floats(batch.x), batch.y
    # What opens a session is timed apart.
    right = target.correct(x, y)
    begun = time.perf_counter()
    target.correct(x, y)
    forward = (time.perf_counter() - begun) / count
    share, product = float(right.mean()), _seconds_of_product()
    blind = Pace(0.0, forward, forward, share, (share,) * len(threats), product)
    if not gradients:
        return blind
    begun = time.perf_counter()
    try:
        Apgd(steps=1, stop_early=False).run(target, x, y, batch.index, threats[-1])
    except NoGradientError:
        return blind
    opening = time.perf_counter() - begun
    left, begun = [], time.perf_counter()
    for threat in threats:
        attacked = Apgd(steps=PILOT, stop_early=False).run(target, x, y, batch.index, threat)
        left.append(float((right & target.correct(attacked, y)).mean()))
    spent = (time.perf_counter() - begun) / (count * len(threats))
    # The verdict is a pass.
    step = max(forward, (spent - forward) / (PILOT + 1))
    # Its two iterations are part of what the first attack took.
    opening = max(0.0, opening - 2 * count * step)
    return Pace(opening, forward, step, share, tuple(left), product)


def _seconds_of_product() -> float:
    """Measure what a multiplication takes in a product of matrices as features and weights are."""
    features, weight = np.ones((256, 1024), np.float32), np.ones((1024, 32), np.float32)
    taken = []
    for _ in range(REPEATED):
        begun = time.perf_counter()
        _ = features @ weight
        taken.append(time.perf_counter() - begun)
    # One takes too little time to be told by a mean: whatever comes between is longer.
    return min(taken) / (features.size * weight.shape[1])
