"""What the parameters of gates mean, and how Adam moves them.

Positive gates are ``exp θ``: they stay positive, and a step changes each by a factor. Binary gates
are ``[θ > ½]`` with θ in [0, 1]; their gradient is taken as that of θ itself (the straight-through
estimator; Bengio et al., arXiv 1308.3432; for masks Mallya et al., arXiv 1801.06519).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Doubles

Kind = Literal["positive", "binary"]


def gates_of(theta: Doubles, kind: Kind) -> Doubles:
    """Return the gates that parameters stand for."""
    return np.exp(theta) if kind == "positive" else (theta > 0.5).astype(np.float64)


def neutral(count: int, kind: Kind) -> Doubles:
    """Return the parameters of gates that are all 1."""
    return np.zeros(count) if kind == "positive" else np.ones(count)


def stepped(adam: Adam, gradient: Doubles, rate: float, kind: Kind) -> Adam:
    """Return what follows after one step of Adam down.

    Parameters
    ----------
    adam
        The parameters under way.
    gradient
        ∂loss/∂gate.
    rate
        The learning rate.
    kind
        What the parameters mean.
    """
    if kind == "positive":
        # ∂/∂θ of exp θ is exp θ.
        return adam.step(gradient * np.exp(adam.theta), rate)
    adam = adam.step(gradient, rate)
    return replace(adam, theta=np.clip(adam.theta, 0.0, 1.0))


def cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: from 1 down to 0 (arXiv 1608.03983)."""
    return 0.5 * (1 + float(np.cos(np.pi * min(step, steps) / steps)))
