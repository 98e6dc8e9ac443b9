"""Adam on a vector of gates, and what its parameters mean.

Positive gates are ``exp θ``: they stay positive, and a step changes each by a factor. Binary gates
are ``[θ > ½]`` with θ in [0, 1]; their gradient is taken as that of θ itself (the straight-through
estimator; Bengio et al., arXiv 1308.3432; for masks Mallya et al., arXiv 1801.06519).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Kind = Literal["positive", "binary"]

# Kingma & Ba, arXiv 1412.6980, algorithm 1.
BETA_MEAN, BETA_SQUARE, TINY = 0.9, 0.999, 1e-8


def gates_of(theta: Vector, kind: Kind) -> Vector:
    """Return the gates that parameters stand for."""
    return np.exp(theta) if kind == "positive" else (theta > 0.5).astype(np.float64)


def neutral(count: int, kind: Kind) -> Vector:
    """Return the parameters of gates that are all 1."""
    return np.zeros(count) if kind == "positive" else np.ones(count)


@dataclass(frozen=True)
class Adam:
    """Parameters under way.

    Attributes
    ----------
    theta
        The parameters.
    mean, square
        Running means of the gradient and of its square.
    count
        Steps taken.
    """

    theta: Vector
    mean: Vector
    square: Vector
    count: int

    @classmethod
    def at(cls, theta: Vector) -> Self:
        """Start from these parameters."""
        return cls(theta, np.zeros_like(theta), np.zeros_like(theta), 0)

    def step(self, gradient: Vector, rate: float, kind: Kind) -> Adam:
        """Return what follows after one step down.

        Parameters
        ----------
        gradient
            ∂loss/∂gate.
        rate
            The learning rate.
        kind
            What the parameters mean.
        """
        if kind == "positive":
            # ∂/∂θ of exp θ is exp θ.
            gradient = gradient * np.exp(self.theta)
        count = self.count + 1
        mean = BETA_MEAN * self.mean + (1 - BETA_MEAN) * gradient
        square = BETA_SQUARE * self.square + (1 - BETA_SQUARE) * np.square(gradient)
        unbiased = mean / (1 - BETA_MEAN**count)
        spread = np.sqrt(square / (1 - BETA_SQUARE**count))
        theta = self.theta - rate * unbiased / (spread + TINY)
        if kind == "binary":
            theta = np.clip(theta, 0.0, 1.0)
        return replace(self, theta=theta, mean=mean, square=square, count=count)


def cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: from 1 down to 0 (arXiv 1608.03983)."""
    return 0.5 * (1 + float(np.cos(np.pi * min(step, steps) / steps)))
