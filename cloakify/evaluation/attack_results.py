"""What is tried on a model at several budgets, and which samples withstand it.

Only boolean vectors and distances are kept, so memory does not depend on the size of a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import ApgdT, Attack
from cloakify.attacks.apgd import ApgdBpda
from cloakify.attacks.fab import FabT
from cloakify.attacks.target_order import CANDIDATES
from cloakify.data import Copies
from cloakify.numeric.arrays import Flags, Labels


@dataclass(frozen=True)
class AttackPlan:
    """What to try on each model.

    Attributes
    ----------
    budgets
        In data units, ascending; E of them.
    extended_budgets
        Larger budgets, ascending, which continue the curve by the first attack alone; F of them.
        The last one is no bound at all.
    attacks
        The cascade, those that follow the gradient first; A of them.
    doubled
        The first attack with twice its steps, where it has steps.
    doubled_stride
        It is run on the first of every so many samples.
    transfer_attack
        What crafts samples to be tried on the other models: the first attack, driving each past
        the nearest border and not only over it; ``None`` for a single model.
    onward
        How many iterations it does so for; see :meth:`~cloakify.attacks.Attack.explore`.
    gradient_free_check
        A gradient-free attack that is run on what the cascade leaves at the largest budget.
    check_stride
        Of the first of every so many samples.
    extending
        The first attack, with steps of its own, for the extended budgets.
    nearest_search
        Searches for the nearest misclassified point of samples.
    search_stride
        It does so for the first of every so many samples: a median needs no more than hundreds.
    given_copies
        Attacked copies of the samples, to be tried too.
    seed
        Of the random noise.
    """

    budgets: tuple[float, ...]
    extended_budgets: tuple[float, ...]
    attacks: tuple[Attack, ...]
    doubled: Attack | None
    doubled_stride: int
    transfer_attack: Attack | None
    onward: int | None
    gradient_free_check: Attack | None
    check_stride: int
    extending: Attack
    nearest_search: FabT | None
    search_stride: int
    given_copies: Copies | None
    seed: int

    @property
    def white_box(self) -> tuple[Attack, ...]:
        """Those attacks of the cascade that follow the gradient."""
        return tuple(attack for attack in self.attacks if attack.gradient == "white-box")

    def work(self, index: Labels) -> int:
        """What one model takes for samples of these indices, at most, in steps along a gradient."""
        each = sum(map(work_of, [*self.attacks, self.transfer_attack]))
        once = len(self.extended_budgets) * work_of(self.extending)
        return (
            len(index) * (len(self.budgets) * each + once)
            + int(first_of_every(self.doubled_stride, index).sum())
            * (len(self.budgets) * work_of(self.doubled))
            + int(first_of_every(self.check_stride, index).sum())
            * work_of(self.gradient_free_check)
            + int(first_of_every(self.search_stride, index).sum()) * work_of(self.nearest_search)
        )


def first_of_every(stride: int, index: Labels) -> Flags:
    """Tell of which samples, by their indices, each is the first of so many."""
    flags: Flags = index % stride == 0
    return flags


def work_of(attack: Attack | None) -> int:
    """Return how many steps along a gradient an attack takes at most, or as long as these."""
    if attack is None:
        return 0
    steps = attack.steps
    if isinstance(attack, ApgdT | FabT):
        steps *= attack.num_targets
    if isinstance(attack, ApgdBpda):
        steps *= 2
    if isinstance(attack, ApgdT) and attack.by_slope:
        steps += CANDIDATES * attack.num_targets
    # A query is a forward pass alone, about a third of a step.
    return steps if attack.gradient == "white-box" else -(-steps // 3)


@dataclass(frozen=True)
class AttackResults:
    """Which of n samples a model still classifies rightly under each attack.

    Attributes
    ----------
    budgets
        As in :class:`AttackPlan`.
    clean
        bool [n], unattacked.
    noise
        bool [E, n], under random noise of the budget's size.
    first_attack
        bool [E, n], under the first attack, run afresh at each budget.
    surviving
        bool [E, A, n], after each attack of the cascade: run on what those before it and the
        smaller budgets leave, for a point of the smaller ball is in the larger one too.
    doubled, doubled_on
        bool [E, n] and [n]: ``first_attack`` and under the first attack with twice its steps; and
        which samples these were tried on.
    transferred
        bool [M, E, n], on the samples of highest loss crafted against each of the M models; for a
        single model all of them are right.
    on_copies
        bool [n], on the attacked copy that was given.
    in_ball, in_box
        bool [E, n] and [n]: where that copy lies.
    checked, checked_on
        bool [n], after the gradient-free check on what the cascade leaves at the largest budget;
        and which samples it was to be tried on.
    extended
        bool [F, n]: the worst case at the extended budgets, under the first attack.
    searched
        bool [n]: of which samples the nearest misclassified point was searched for.
    distance
        float64 [n], in data units, to that point; infinite where there is none, or none was
        searched for.
    """

    budgets: tuple[float, ...]
    clean: Flags
    noise: Flags
    first_attack: Flags
    surviving: Flags
    doubled: Flags
    doubled_on: Flags
    transferred: Flags
    on_copies: Flags
    in_ball: Flags
    in_box: Flags
    checked: Flags
    checked_on: Flags
    extended: Flags
    searched: Flags
    distance: NDArray[np.float64]

    @classmethod
    def of(cls, plan: AttackPlan, models: int, n: int) -> AttackResults:
        """Return results in which nothing was fooled yet."""
        many = len(plan.budgets)

        def right(*shape: int) -> Flags:
            return np.ones((*shape, n), np.bool_)

        return cls(
            plan.budgets,
            clean=right(),
            noise=right(many),
            first_attack=right(many),
            surviving=right(many, len(plan.attacks)),
            doubled=right(many),
            doubled_on=np.zeros(n, np.bool_),
            transferred=right(models, many),
            on_copies=right(),
            in_ball=right(many),
            in_box=right(),
            checked=right(),
            checked_on=np.zeros(n, np.bool_),
            extended=right(len(plan.extended_budgets)),
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
        right = self.clean & self.noise & self.first_attack & self.surviving.all(axis=1)
        right &= self.doubled & self.transferred.all(axis=0)
        right &= (self.on_copies | ~self.counted) & (self.distance > eps)
        right[-1] &= self.checked
        worst: Flags = np.logical_and.accumulate(right, axis=0)
        return worst

    def put(self, index: Labels, part: AttackResults) -> None:
        """Write the results of some of the samples."""
        mine = self._arrays()
        for name, array in part._arrays().items():
            mine[name][..., index] = array

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {name: array for name, array in vars(self).items() if name != "budgets"}
