"""Everything that is tried on models at several budgets, and which samples withstand it.

Only boolean vectors and distances are kept, so memory does not depend on the size of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import ApgdT, Attack, Target, ThreatModel
from cloakify.attacks.fab import FabT
from cloakify.attacks.given import within
from cloakify.attacks.starts import random_in_ball, random_on_sphere
from cloakify.data import Batch, Copies, Dataset
from cloakify.errors import NoGradientError
from cloakify.evaluation.samples import Samples
from cloakify.numeric.arrays import Array, Flags, Labels, floats

# More small samples are attacked together than a target asks for, so that attacks which drop fooled
# ones still fill their batches: as long as they take no more than so many bytes, up to so many.
BYTES = 1 << 25
MOST = 2048

# Which draw the random noise is, apart from the restarts of attacks.
_NOISE = 1 << 30


@dataclass(frozen=True)
class Plan:
    """What to try on each model.

    Attributes
    ----------
    budgets
        In data units, ascending; E of them.
    further
        Larger budgets, ascending, which continue the curve by the first attack alone; F of them.
        The last one is no bound at all.
    attacks
        The cascade, those that follow the gradient first; A of them.
    doubled
        The first attack with twice its steps, where it has steps.
    highest
        What crafts samples to be tried on the other models: the first attack, driving each to its
        highest loss and not only over the nearest border; ``None`` for a single model.
    check
        A gradient-free attack that is run on what the cascade leaves at the largest budget.
    nearest
        Searches for the nearest misclassified point of samples.
    every
        It does so for the first of every so many samples: a median needs no more than hundreds.
    given
        Attacked copies of the samples, to be tried too.
    seed
        Of the random noise.
    """

    budgets: tuple[float, ...]
    further: tuple[float, ...]
    attacks: tuple[Attack, ...]
    doubled: Attack | None
    highest: Attack | None
    check: Attack | None
    nearest: FabT | None
    every: int
    given: Copies | None
    seed: int

    @property
    def work(self) -> int:
        """What one model takes for each sample, at most, in steps along a gradient."""
        each = [*self.attacks, self.doubled, self.highest]
        once = [self.check, *[self.attacks[0]] * len(self.further)]
        return (
            len(self.budgets) * sum(map(work_of, each))
            + sum(map(work_of, once))
            + work_of(self.nearest) // self.every
        )


def work_of(attack: Attack | None) -> int:
    """Return how many steps along a gradient an attack takes at most, or as long as these."""
    if attack is None:
        return 0
    steps = attack.steps
    if isinstance(attack, ApgdT | FabT):
        steps *= attack.num_targets
    # A query is a forward pass alone, about a third of a step.
    return steps if attack.gradient == "white-box" else -(-steps // 3)


@dataclass(frozen=True)
class AttackResults:
    """Which of n samples a model still classifies rightly under each trial.

    Attributes
    ----------
    budgets
        As in :class:`Plan`.
    clean
        bool [n], unattacked.
    noise
        bool [E, n], under random noise of the budget's size.
    alone
        bool [E, n], under the first attack, run afresh at each budget.
    left
        bool [E, A, n], after each attack of the cascade: run on what those before it and the
        smaller budgets leave, for a point of the smaller ball is in the larger one too.
    doubled
        bool [E, n], ``alone`` and under the first attack with twice its steps.
    crafted
        bool [M, E, n], on the samples of highest loss crafted against each of the M models; for a
        single model all of them are right.
    copied
        bool [n], on the attacked copy that was given.
    in_ball, in_box
        bool [E, n] and [n]: where that copy lies.
    checked
        bool [n], after the gradient-free check on what the cascade leaves at the largest budget.
    further
        bool [F, n]: the worst case at the further budgets, under the first attack.
    searched
        bool [n]: of which samples the nearest misclassified point was searched for.
    distance
        float64 [n], in data units, to that point; infinite where none was found or searched for.
    """

    budgets: tuple[float, ...]
    clean: Flags
    noise: Flags
    alone: Flags
    left: Flags
    doubled: Flags
    crafted: Flags
    copied: Flags
    in_ball: Flags
    in_box: Flags
    checked: Flags
    further: Flags
    searched: Flags
    distance: NDArray[np.float64]

    @classmethod
    def of(cls, plan: Plan, models: int, n: int) -> AttackResults:
        """Return trials in which nothing was fooled yet."""
        many = len(plan.budgets)

        def right(*shape: int) -> Flags:
            return np.ones((*shape, n), np.bool_)

        return cls(
            plan.budgets,
            clean=right(),
            noise=right(many),
            alone=right(many),
            left=right(many, len(plan.attacks)),
            doubled=right(many),
            crafted=right(models, many),
            copied=right(),
            in_ball=right(many),
            in_box=right(),
            checked=right(),
            further=right(len(plan.further)),
            searched=np.zeros(n, np.bool_),
            distance=np.full(n, np.inf),
        )

    @property
    def counted(self) -> Flags:
        """Which of the given copies count at each budget: those in ball and box; bool [E, n]."""
        return self.in_ball & self.in_box

    @property
    def worst_case(self) -> Flags:
        """Right under everything that was tried at a budget and at the smaller ones; bool [E, n].

        It can only fall with the budget.
        """
        eps = np.array(self.budgets)[:, None]
        found = self.clean & self.noise & self.alone & self.left.all(axis=1) & self.doubled
        found &= self.crafted.all(axis=0) & (self.copied | ~self.counted) & (self.distance > eps)
        found[-1] &= self.checked
        worst: Flags = np.logical_and.accumulate(found, axis=0)
        return worst

    def put(self, index: Labels, part: AttackResults) -> None:
        """Write what was found for some of the samples."""
        mine = self._arrays()
        for name, array in part._arrays().items():
            mine[name][..., index] = array

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {name: array for name, array in vars(self).items() if name != "budgets"}


def try_models(
    targets: Sequence[Target],
    plan: Plan,
    threat: ThreatModel,
    dataset: Dataset,
    progress: Callable[[int, int], None],
) -> list[AttackResults]:
    """Try everything on every model, on the same samples.

    Parameters
    ----------
    targets
        The models; they take the same samples and have the same classes.
    threat
        Norm and box; its budget is not used.
    progress
        Called with the work done and the whole work.

    Raises
    ------
    UnsupportedOperatorError
        An attack follows the gradient and an operator has no rule.
    """
    found = [AttackResults.of(plan, len(targets), len(dataset)) for _ in targets]
    meter = _Meter(progress, plan.work * len(targets) * len(dataset))
    for batch in _batches(dataset, targets[0]):
        samples = Samples(floats(batch.x), batch.y, batch.index)
        parts = [AttackResults.of(plan, len(targets), len(batch.y)) for _ in targets]
        for number, target in enumerate(targets):
            run = _Run(target, plan, threat, samples, parts[number], meter)
            run.cascade()
            run.transfer(targets, number, parts)
            run.given()
        # Only now is it known what every model's samples do to the others.
        for target, part in zip(targets, parts, strict=True):
            _Run(target, plan, threat, samples, part, meter).go_on()
        for trials, part in zip(found, parts, strict=True):
            trials.put(batch.index, part)
    return found


def _batches(dataset: Dataset, target: Target) -> Iterator[Batch]:
    """Read a small batch first, from all over the data: it tells how long the rest will take."""
    every = -(-len(dataset) // target.batch_size)
    first = np.arange(0, len(dataset), every)
    yield from dataset.batches(first, target.batch_size)
    rest = np.setdiff1d(np.arange(len(dataset)), first)
    if len(rest):
        fitting = BYTES // (4 * int(np.prod(dataset.sample_shape)))
        yield from dataset.batches(rest, max(target.span, min(fitting, MOST)))


class _Meter:
    """Counts work."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def add(self, amount: int) -> None:
        self.done += amount
        self.progress(self.done, self.total)


@dataclass(frozen=True)
class _Run:
    """The trials of one model on some samples."""

    target: Target
    plan: Plan
    threat: ThreatModel
    samples: Samples
    trials: AttackResults
    meter: _Meter

    def cascade(self) -> None:
        """Try what does not depend on the other models."""
        plan, trials, samples = self.plan, self.trials, self.samples
        trials.clean[:] = self.target.correct(samples.x, samples.y)
        if plan.nearest is not None:
            trials.searched[:] = samples.index % plan.every == 0
            trials.distance[trials.searched] = self._distance(plan.nearest, trials.searched)
        standing = trials.clean
        for number, eps in enumerate(plan.budgets):
            ball = self.threat.with_eps(eps)
            noisy = random_in_ball(
                samples.x, samples.index, [_NOISE] * len(samples.x), ball, plan.seed
            )
            trials.noise[number] = self.target.correct(noisy, samples.y)
            alone = self._withstands(plan.attacks[0], ball, trials.clean)
            trials.alone[number] = alone
            standing = standing & alone
            trials.left[number, 0] = standing
            for place, attack in enumerate(plan.attacks[1:], 1):
                standing = self._withstands(attack, ball, standing)
                trials.left[number, place] = standing
            trials.doubled[number] = alone
            if plan.doubled is not None:
                trials.doubled[number] = self._withstands(plan.doubled, ball, alone)
        if plan.check is not None:
            ball = self.threat.with_eps(plan.budgets[-1])
            trials.checked[:] = self._withstands(plan.check, ball, standing)

    def transfer(
        self, targets: Sequence[Target], number: int, parts: Sequence[AttackResults]
    ) -> None:
        """Craft samples of the highest loss against this model and try them on all models."""
        if self.plan.highest is None:
            return
        samples = self.samples
        for place, eps in enumerate(self.plan.budgets):
            ball = self.threat.with_eps(eps)
            attacked = craft(self.plan.highest, self.target, samples, ball)
            for target, part in zip(targets, parts, strict=True):
                part.crafted[number, place] = target.correct(attacked, samples.y)
            self.meter.add(len(samples.x) * work_of(self.plan.highest))

    def given(self) -> None:
        """Try the attacked copies that were given."""
        if self.plan.given is None:
            return
        samples, trials = self.samples, self.trials
        x = self.plan.given.load(samples.index)
        trials.copied[:] = self.target.correct(x, samples.y)
        for place, eps in enumerate(self.plan.budgets):
            found = within(x, samples.x, self.threat.with_eps(eps))
            trials.in_ball[place], trials.in_box[:] = found

    def go_on(self) -> None:
        """Continue the curve of the worst case beyond the budgets."""
        standing = self.trials.worst_case[-1]
        for number, eps in enumerate(self.plan.further):
            standing = self._withstands(self.plan.attacks[0], self.threat.with_eps(eps), standing)
            self.trials.further[number] = standing

    def _withstands(self, attack: Attack, ball: ThreatModel, standing: Flags) -> Flags:
        """Run an attack on some of the samples; tell which of these are still right."""
        still = standing.copy()
        rows = np.flatnonzero(standing)
        if len(rows):
            part = self.samples.at(rows)
            still[rows] = self.target.correct(craft(attack, self.target, part, ball), part.y)
        self.meter.add(len(standing) * work_of(attack))
        return still

    def _distance(self, search: FabT, searched: Flags) -> NDArray[np.float64]:
        samples = self.samples.at(np.flatnonzero(searched))
        if not len(samples.x):
            return np.empty(0)
        try:
            found = search.nearest(self.target, samples.x, samples.y, self.threat)
        except NoGradientError:
            found = samples.x
        self.meter.add(len(samples.x) * work_of(search))
        right = self.target.correct(found, samples.y)
        return np.where(right, np.inf, self.threat.distance(found, samples.x))


def craft(attack: Attack, target: Target, samples: Samples, ball: ThreatModel) -> Array:
    """Run an attack; one that follows a gradient which does not exist stays where it starts."""
    try:
        return attack.run(target, samples.x, samples.y, samples.index, ball)
    except NoGradientError:
        return random_on_sphere(samples.x, samples.index, [0] * len(samples.x), ball, 0)
