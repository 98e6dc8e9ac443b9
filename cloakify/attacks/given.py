"""Attacked copies that a user gives, in an attack's place, and whether they keep to a budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.attacks.base import Attack
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.data import Copies, Dataset
from cloakify.numeric.arrays import Array, Flags, Labels, as_rows, floats

# A copy at the edge of ball or box may lie past it by what float32 and the file's own format round
# off, as a share of ε or of the data's unit.
ROUNDING = 1e-4
BOX_ROUNDING = 1e-6


class Given(Attack):
    """Hands out the copy of each sample as it is, wherever it lies."""

    name = "given"
    gradient = "gradient-free"

    def __init__(self, copies: Copies | None) -> None:
        self._copies = copies

    @property
    def copies(self) -> Copies:
        """The copies."""
        assert self._copies is not None, "given where it arrived"
        return self._copies

    def __repr__(self) -> str:
        return "Given()"

    def __reduce__(self) -> tuple[type[Given], tuple[None]]:
        """Travel without the copies: they are opened where the samples are."""
        return Given, (None,)

    @property
    def steps(self) -> int:
        """One."""
        return 1

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`; ball and box are for :func:`within` to look at."""
        return self.copies.load(index)


def within(x: Array, clean: Array, threat: ThreatModel) -> tuple[Flags, Flags]:
    """Tell which copies lie in the ball around their sample, and which in the box; bool [n] each.

    Parameters
    ----------
    x, clean
        Copies and samples, [n, …], in model units.
    """
    slack = BOX_ROUNDING * threat.factor
    inside = (x >= threat.lower - slack) & (x <= threat.upper + slack)
    ball: Flags = threat.distance(x, clean) <= threat.eps * (1 + ROUNDING)
    box: Flags = np.all(as_rows(inside), axis=1)
    return ball, box


@dataclass(frozen=True)
class Count:
    """How many copies lie in ball and box, how many outside the ball, and outside the box."""

    counted: int
    ball: int
    box: int


def count_outside(copies: Copies, dataset: Dataset, threat: ThreatModel, batch: int) -> Count:
    """Look at the copy of every sample, a batch at a time."""
    counted = ball = box = 0
    for part in dataset.batches(batch_size=batch):
        clean = floats(part.x)
        kept, inside = within(copies.load(part.index), clean, threat)
        counted += int((kept & inside).sum())
        ball += int((~kept).sum())
        box += int((~inside).sum())
    return Count(counted, ball, box)
