"""Try every attack of a plan on several models, on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import Attack, Target, ThreatModel
from cloakify.attacks.fab import FabT
from cloakify.attacks.given import within
from cloakify.attacks.starts import random_in_ball, random_on_sphere
from cloakify.errors import NoGradientError
from cloakify.evaluation.attack_results import AttackPlan, AttackResults, first_of_every, work_of
from cloakify.evaluation.samples import Samples
from cloakify.numeric.arrays import Array, Flags, Indices, in_chunks

# More small samples are attacked together than a target asks for, so that attacks which drop fooled
# ones still fill their batches: as long as they take no more than so many bytes, up to so many.
BYTES = 1 << 25
MOST = 2048

# Which draw the random noise is, apart from the restarts of attacks.
_NOISE = 1 << 30


def attack_models(
    targets: Sequence[Target],
    plan: AttackPlan,
    threat: ThreatModel,
    samples: Samples,
    tell: Callable[[int], None],
) -> list[AttackResults]:
    """Try everything of the plan on every model, on the same samples.

    Parameters
    ----------
    targets
        The models; they take the same samples and have the same classes.
    threat
        Norm and box; its budget is not used.
    samples
        Of all samples a part such as :func:`attacked_together` deals them.
    tell
        Told of amounts of work as they are done: :meth:`AttackPlan.work` for each model.

    Raises
    ------
    UnsupportedOperatorError
        An attack follows the gradient and an operator has no rule.
    """
    parts = [AttackResults.of(plan, len(targets), len(samples.y)) for _ in targets]
    for number, target in enumerate(targets):
        one = _ModelAttack(target, plan, threat, samples, parts[number], tell)
        one.run_cascade()
        one.craft_transfer(targets, number, parts)
        one.try_given_copies()
    # Only now is it known what every model's samples do to the others.
    for target, part in zip(targets, parts, strict=True):
        _ModelAttack(target, plan, threat, samples, part, tell).extend_curve()
    return parts


def attacked_together(
    count: int, sample_shape: Sequence[int], batch_size: int, span: int, parts: int = 1
) -> list[Indices]:
    """Deal samples into parts, each of which is attacked together.

    The first is a small one, from all over the data: it tells how long the rest will take.

    Parameters
    ----------
    count, sample_shape
        How many samples there are, and the shape of one.
    batch_size, span
        Of the first target.
    parts
        Into how many to deal them at least, as far as each is a span: one is all that it takes
        where a single process goes through them.
    """
    stride = -(-count // batch_size)
    first = np.arange(0, count, stride)
    rest = np.setdiff1d(np.arange(count), first)
    fitting = BYTES // (4 * int(np.prod(sample_shape)))
    size = max(span, min(fitting, MOST, -(-count // parts)))
    return [first, *in_chunks(rest, size)]


@dataclass(frozen=True)
class _ModelAttack:
    """The attacks on one model, on some samples."""

    target: Target
    plan: AttackPlan
    threat: ThreatModel
    samples: Samples
    results: AttackResults
    tell: Callable[[int], None]

    def run_cascade(self) -> None:
        """Try what does not depend on the other models."""
        plan, results, samples = self.plan, self.results, self.samples
        results.clean[:] = self.target.correct(samples.x, samples.y)
        if plan.nearest_search is not None:
            results.searched[:] = first_of_every(plan.search_stride, samples.index)
            searched = results.searched
            results.distance[searched] = self._distance(plan.nearest_search, searched)
        if plan.doubled is not None:
            results.doubled_on[:] = first_of_every(plan.doubled_stride, samples.index)
        if plan.gradient_free_check is not None:
            results.checked_on[:] = first_of_every(plan.check_stride, samples.index)
        standing = results.clean
        for number, eps in enumerate(plan.budgets):
            ball = self.threat.with_eps(eps)
            noisy = random_in_ball(
                samples.x, samples.index, [_NOISE] * len(samples.x), ball, plan.seed
            )
            results.noise[number] = self.target.correct(noisy, samples.y)
            first = self._withstands(plan.attacks[0], ball, results.clean)
            results.first_attack[number] = first
            standing = standing & first
            results.surviving[number, 0] = standing
            for place, attack in enumerate(plan.attacks[1:], 1):
                standing = self._withstands(attack, ball, standing)
                results.surviving[number, place] = standing
            results.doubled[number] = first
            if plan.doubled is not None:
                results.doubled[number] = self._withstands(
                    plan.doubled, ball, first, results.doubled_on
                )
        if plan.gradient_free_check is not None:
            ball = self.threat.with_eps(plan.budgets[-1])
            results.checked[:] = self._withstands(
                plan.gradient_free_check, ball, standing, results.checked_on
            )

    def craft_transfer(
        self, targets: Sequence[Target], number: int, parts: Sequence[AttackResults]
    ) -> None:
        """Craft samples well past this model's border and try them on all models."""
        if self.plan.transfer_attack is None:
            return
        samples = self.samples
        for place, eps in enumerate(self.plan.budgets):
            ball = self.threat.with_eps(eps)
            attacked = self._driven(self.plan.transfer_attack, ball)
            for target, part in zip(targets, parts, strict=True):
                part.transferred[number, place] = target.correct(attacked, samples.y)
            self.tell(len(samples.x) * work_of(self.plan.transfer_attack))

    def try_given_copies(self) -> None:
        """Try the attacked copies that were given."""
        if self.plan.given_copies is None:
            return
        samples, results = self.samples, self.results
        x = self.plan.given_copies.load(samples.index)
        results.on_copies[:] = self.target.correct(x, samples.y)
        for place, eps in enumerate(self.plan.budgets):
            in_ball, in_box = within(x, samples.x, self.threat.with_eps(eps))
            results.in_ball[place], results.in_box[:] = in_ball, in_box

    def extend_curve(self) -> None:
        """Continue the curve of the worst case beyond the budgets."""
        standing = self.results.worst_case[-1]
        for number, eps in enumerate(self.plan.extended_budgets):
            standing = self._withstands(self.plan.extending, self.threat.with_eps(eps), standing)
            self.results.extended[number] = standing

    def _withstands(
        self, attack: Attack, ball: ThreatModel, standing: Flags, chosen: Flags | None = None
    ) -> Flags:
        """Run an attack on what stands, of the chosen samples alone; tell what still does."""
        tried = np.ones(len(standing), np.bool_) if chosen is None else chosen
        left = withstands(attack, self.target, self.samples, ball, standing & tried)
        self.tell(int(tried.sum()) * work_of(attack))
        return left | (standing & ~tried)

    def _driven(self, attack: Attack, ball: ThreatModel) -> Array:
        samples = self.samples
        try:
            attacked, _ = attack.explore(
                self.target, samples.x, samples.y, samples.index, ball, self.plan.onward
            )
        except NoGradientError:
            return _anywhere(samples, ball)
        return attacked

    def _distance(self, search: FabT, searched: Flags) -> NDArray[np.float64]:
        samples = self.samples.at(np.flatnonzero(searched))
        if not len(samples.x):
            return np.empty(0)
        try:
            nearest = search.nearest(self.target, samples.x, samples.y, self.threat)
        except NoGradientError:
            nearest = samples.x
        self.tell(len(samples.x) * work_of(search))
        right = self.target.correct(nearest, samples.y)
        return np.where(right, np.inf, self.threat.distance(nearest, samples.x))


def craft(attack: Attack, target: Target, samples: Samples, ball: ThreatModel) -> Array:
    """Run an attack; one that follows a gradient which does not exist stays where it starts."""
    try:
        return attack.run(target, samples.x, samples.y, samples.index, ball)
    except NoGradientError:
        return _anywhere(samples, ball)


def withstands(
    attack: Attack, target: Target, samples: Samples, ball: ThreatModel, standing: Flags
) -> Flags:
    """Run an attack on those of n samples that stand, bool [n]; tell which still do."""
    still = standing.copy()
    rows = np.flatnonzero(standing)
    if len(rows):
        part = samples.at(rows)
        still[rows] = target.correct(craft(attack, target, part, ball), part.y)
    return still


def _anywhere(samples: Samples, ball: ThreatModel) -> Array:
    return random_on_sphere(samples.x, samples.index, [0] * len(samples.x), ball, 0)
