"""What an attack is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels


class Attack(ABC):
    """Moves samples within a threat model so that a classifier errs.

    Settings are keyword-only arguments of the constructor; one attack can be run on many targets.

    Attributes
    ----------
    name
        As on the command line and in reports.
    gradient
        ``white-box`` or ``gradient-free``.
    """

    name: ClassVar[str]
    gradient: ClassVar[Literal["white-box", "gradient-free"]] = "white-box"

    @property
    @abstractmethod
    def steps(self) -> int:
        """Passes through the model for one sample, the report's ``steps``."""

    @abstractmethod
    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """Return the attacked samples.

        Parameters
        ----------
        target
            The classifier to attack.
        x, y
            Clean samples [n, …], in model units, and their labels int64 [n].
        index
            int64 [n]: which samples of the data set these are. Randomness is drawn per sample from
            the seed and this index, so that a sample's result does not depend on its neighbours.
        threat
            How far to go.

        Returns
        -------
        float32, the shape of ``x``, within ball and box.
        """

    def explore(
        self,
        target: Target,
        x: Array,
        y: Labels,
        index: Labels,
        threat: ThreatModel,
        onward: int | None = None,
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Return the attacked samples, and for which of them the attack may have succeeded.

        For the others the same attack, stopping at its first success, would fail too. An attack
        that can't tell says of all that it may.

        Parameters
        ----------
        onward
            How many iterations to drive a sample on, past the border, from the first that fools
            the target; as many as the attack has when left out, or where it can't.

        Returns
        -------
        As :meth:`run`, and bool [n].
        """
        return self.run(target, x, y, index, threat), np.ones(len(x), np.bool_)

    def resume(
        self,
        target: Target,
        x: Array,
        y: Labels,
        index: Labels,
        threat: ThreatModel,
        begin: Array,
    ) -> Array:
        """Return the attacked samples as :meth:`run` does, starting from points that are given.

        An attack that can't starts where it always does.

        Parameters
        ----------
        x, y
            Clean samples that the target classifies rightly.
        begin
            Points of ball and box, the shape of ``x``: such as fool a similar model.
        """
        return self.run(target, x, y, index, threat)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name.lstrip('_')}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


def sample_generator(seed: int, index: int, *purpose: int) -> np.random.Generator:
    """Return the random generator of one sample: the same in every batch and order."""
    return np.random.default_rng([seed, index, *purpose])


def not_fooled(
    target: Target, adversarial: Array, y: Labels, claimed: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return which of the samples that should fool the shipped graph do not."""
    rows = np.flatnonzero(claimed)
    return rows[target.correct(adversarial[rows], y[rows])] if len(rows) else rows
