"""Several attacks in turn, each on the samples that all before it failed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.attacks.apgd import Apgd
from cloakify.attacks.apgd_t import ApgdT
from cloakify.attacks.base import Attack
from cloakify.attacks.fab import FabT
from cloakify.attacks.square import Square
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Flags, Labels


@dataclass(frozen=True)
class WorstCase:
    """What a cascade finds for n samples.

    Attributes
    ----------
    correct
        Which samples the shipped graph classifies rightly as they are; bool [n].
    robust
        By attack name, in the order they ran: which samples it and all before it failed on; bool
        [n]. The last one is the worst case.
    x
        float32, the shape of the samples: an attacked sample that the shipped graph misclassifies,
        where one was found; where none was, the last attack's try.
    """

    correct: Flags
    robust: dict[str, Flags]
    x: Array

    @property
    def worst(self) -> Flags:
        """Which samples every attack failed on; bool [n]."""
        return list(self.robust.values())[-1] if self.robust else self.correct


def worst_case(
    attacks: Sequence[Attack],
    target: Target,
    x: Array,
    y: Labels,
    index: Labels,
    threat: ThreatModel,
) -> WorstCase:
    """Run attacks in turn; a sample is robust only if every one of them fails.

    Every verdict is taken from the shipped graph's own forward pass, not from the gradient graph.
    An attack that the same name has run before counts under its name and a number (``pgd-2``).

    Parameters
    ----------
    attacks
        In the order to run, cheap ones first.
    target, x, y, index, threat
        See :meth:`~cloakify.attacks.base.Attack.run`.
    """
    correct = target.correct(x, y)
    adversarial = x.copy()
    robust: dict[str, Flags] = {}
    standing = correct
    for attack in attacks:
        rows = np.flatnonzero(standing)
        standing = standing.copy()
        if len(rows):
            tried = attack.run(target, x[rows], y[rows], index[rows], threat)
            adversarial[rows] = tried
            standing[rows] = target.correct(tried, y[rows])
        robust[_free_name(attack.name, robust)] = standing
    return WorstCase(correct, robust, adversarial)


class AutoAttack(Attack):
    """The standard cascade of AutoAttack (Croce & Hein, arXiv 2003.01690, section 6).

    Auto-PGD on the cross-entropy, targeted Auto-PGD on the difference of logits ratio, targeted
    FAB, Square. All run with their authors' settings: 100 steps, 9 target classes, 5,000 queries.

    Parameters
    ----------
    seed
        Of all four.
    """

    name = "autoattack"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The four, in the order they run."""
        return (
            Apgd(seed=self.seed),
            ApgdT(seed=self.seed),
            FabT(),
            Square(seed=self.seed),
        )

    @property
    def steps(self) -> int:
        """Of the gradient attacks, for each target class."""
        return self.attacks[0].steps

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`; the verdicts of each attack are :func:`worst_case`'s."""
        return worst_case(self.attacks, target, x, y, index, threat).x


def _free_name(name: str, taken: dict[str, Flags]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
