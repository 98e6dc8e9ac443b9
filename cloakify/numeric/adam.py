"""Adam, an optimiser (Kingma & Ba, arXiv 1412.6980)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cloakify.numeric.arrays import Doubles

# Algorithm 1's decay rates and ε.
BETA_MEAN, BETA_SQUARE, TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Adam:
    """Parameters under way.

    Attributes
    ----------
    theta
        The parameters, of any shape.
    mean, square
        Running means of the gradient and of its square.
    count
        Steps taken.
    """

    theta: Doubles
    mean: Doubles
    square: Doubles
    count: int

    @classmethod
    def at(cls, theta: Doubles) -> Self:
        """Start from these parameters."""
        return cls(theta, np.zeros_like(theta), np.zeros_like(theta), 0)

    def step(self, gradient: Doubles, rate: float | Doubles, tiny: float = TINY) -> Self:
        """Return what follows after one step down the gradient (algorithm 1).

        Parameters
        ----------
        gradient
            ∂loss/∂theta.
        rate
            The learning rate, of all parameters or of each.
        tiny
            ε, below which the root of the mean square counts as noise.
        """
        count = self.count + 1
        mean = BETA_MEAN * self.mean + (1 - BETA_MEAN) * gradient
        square = BETA_SQUARE * self.square + (1 - BETA_SQUARE) * np.square(gradient)
        unbiased = mean / (1 - BETA_MEAN**count)
        spread = np.sqrt(square / (1 - BETA_SQUARE**count))
        theta = self.theta - rate * unbiased / (spread + tiny)
        return replace(self, theta=theta, mean=mean, square=square, count=count)
