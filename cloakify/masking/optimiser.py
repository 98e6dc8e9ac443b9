"""What the parameters of gates and shifts mean, and how Adam moves them.

Positive gates are ``exp θ``: they stay positive, and a step changes each by a factor. Binary gates
are ``[θ > ½]`` with θ in [0, 1]; their gradient is taken as that of θ itself (the straight-through
estimator; Bengio et al., arXiv 1308.3432; for masks Mallya et al., arXiv 1801.06519). Shifts are
``unit · θ``, of either kind: a layer's unit is as large as its output varies, so that a step moves
a threshold as far in one network as in another.

Gates and shifts of positions learn together: θ is the sum of a part of their own and of one that
all positions of the channel share. So what holds of a channel is learned from all of its positions,
and one of these departs from it by what speaks for that alone; few samples would else be learned by
heart, position by position.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Doubles, Flags, Indices

Kind = Literal["positive", "binary"]


@dataclass(frozen=True, eq=False)
class Parameters:
    """What a vector of parameters θ stands for.

    Attributes
    ----------
    kind
        What it means of gates.
    units
        [count]: the unit of a shift; 0 where there is a gate.
    channels
        int64 [count]: which of m channels each belongs to, where those of a channel share a part
        of their (positive) parameters; then θ is their own parts and behind them the shared ones,
        [count + m].
    own_rate
        How fast their own parts move, as a share of the learning rate.
    """

    kind: Kind
    units: Doubles
    channels: Indices | None = None
    own_rate: float = 1.0

    @property
    def neutral(self) -> Doubles:
        """The parameters of gates of 1 and shifts of 0."""
        own = np.where(self._gates, float(self.kind == "binary"), 0.0)
        if self.channels is None:
            return own
        return np.concatenate([own, np.zeros(int(self.channels.max()) + 1)])

    def values(self, theta: Doubles) -> Doubles:
        """Return the gates and shifts that parameters […, count] (or […, count + m]) stand for."""
        theta = self._summed(theta)
        gates = np.exp(np.where(self._gates, theta, 0)) if self.kind == "positive" else theta > 0.5
        return np.where(self._gates, gates, self.units * theta)

    def stepped(self, adam: Adam, gradient: Doubles, rate: float) -> Adam:
        """Return what follows after one step of Adam down.

        Parameters
        ----------
        adam
            The parameters under way.
        gradient
            ∂loss/∂gate and ∂loss/∂shift.
        rate
            The learning rate.
        """
        slope = np.where(self._gates, 1.0, self.units)
        if self.kind == "positive":
            # ∂/∂θ of exp θ is exp θ.
            slope = np.where(self._gates, self.values(adam.theta), slope)
        if self.channels is not None:
            return adam.step(*self._parts(gradient * slope, self.channels, rate))
        adam = adam.step(gradient * slope, rate)
        if self.kind == "positive":
            return adam
        return replace(adam, theta=np.where(self._gates, np.clip(adam.theta, 0.0, 1.0), adam.theta))

    def _summed(self, theta: Doubles) -> Doubles:
        """Return of each gate and shift its own part and the shared one together, […, count]."""
        if self.channels is None:
            return theta
        count = len(self.units)
        return np.asarray(theta[..., :count] + theta[..., count:][..., self.channels])

    def _parts(self, slopes: Doubles, channels: Indices, rate: float) -> tuple[Doubles, Doubles]:
        """Return the slopes and the rates of own and of shared parts, [count + m] each."""
        members = np.bincount(channels)
        # Alone in its channel, one part is as good as two.
        own = np.where(members[channels] > 1, self.own_rate, 0.0)
        shared = np.bincount(channels, slopes)
        return np.concatenate([slopes, shared]), rate * np.concatenate([own, np.ones(len(members))])

    @property
    def _gates(self) -> Flags:
        return np.equal(self.units, 0)


def cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: from 1 down to 0 (arXiv 1608.03983)."""
    return 0.5 * (1 + float(np.cos(np.pi * min(step, steps) / steps)))
