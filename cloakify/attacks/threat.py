"""What an attacker may do: how far a sample may move, and the box it must stay in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from cloakify.data.preprocessing import Preprocessing
from cloakify.errors import UsageError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.numeric.arrays import Array, floats
from cloakify.numeric.norms import Norm, lengths

# Share of the budget by which `inside` keeps away from the borders: far above what float32 rounds
# off, far below what an attack would miss.
HAIR = 1e-3

# Model units per data unit of values that may not be moved. Attacks divide by it; no budget times
# it changes a whole number other than 0, and 0 stays 0 when it is one again.
NO_ROOM = 1e-30


@dataclass(frozen=True)
class ThreatModel:
    """A ball around each sample, cut by the box of valid inputs.

    Attributes
    ----------
    norm
        ``linf`` or ``l2``, measured in data units (pixels in [0, 1]).
    eps
        Radius in data units.
    factor
        Model units per data unit; float32, broadcastable to a batch in the model's layout.
    lower, upper
        Bounds of the box in model units; likewise. Infinite where there is none.
    """

    norm: Norm
    eps: float
    factor: Array
    lower: Array
    upper: Array

    @property
    def radius(self) -> Array:
        """ε in model units, per channel; float32, broadcastable to a batch."""
        return (np.float32(self.eps) * self.factor).astype(np.float32)

    def with_eps(self, eps: float) -> ThreatModel:
        """Return the same threat model with another budget."""
        return ThreatModel(self.norm, eps, self.factor, self.lower, self.upper)

    def inside(self, size: int) -> ThreatModel:
        """Return a threat model whose points all lie a hair inside this one's ball and box.

        Attacks end on the borders, and a model may bend just there (a ReLU before its first layer
        does at 0), so that its derivative tells of the side where no sample can be. Clean samples
        on the border are projected to no more than that hair away.

        Parameters
        ----------
        size
            How many values a sample has: in l2 each one's hair counts.
        """
        hair = HAIR * self.radius / (1 if self.norm == "linf" else np.sqrt(np.float32(size)))
        lower, upper = floats(self.lower + hair), floats(self.upper - hair)
        return ThreatModel(self.norm, self.eps * (1 - HAIR), self.factor, lower, upper)

    def dimensions(self, sample_shape: tuple[int, ...]) -> int:
        """Return how many values of a sample of that shape may be moved."""
        return int((np.broadcast_to(self.factor[0], sample_shape) > NO_ROOM).sum())

    def distance(self, x: Array, clean: Array) -> NDArray[np.float64]:
        """Return the norm of each sample's perturbation in data units; float64 [n]."""
        return lengths((x.astype(np.float64) - clean) / self.factor, self.norm)

    def project(self, x: Array, clean: Array) -> Array:
        """Return the points of ball and box nearest to ``x`` (for l2: the ball first).

        The box contains ``clean``, so cutting to it never leads out of the ball.
        """
        if self.norm == "linf":
            moved = np.clip(x, clean - self.radius, clean + self.radius)
        else:
            shape = (len(x), *[1] * (x.ndim - 1))
            offset = x - clean
            length = self.distance(x, clean).reshape(shape)
            shrink = np.minimum(1.0, self.eps / np.maximum(length, 1e-30)).astype(np.float32)
            moved = clean + offset * shrink
        return np.clip(moved, self.lower, self.upper)


def packed_threat(
    threats: Sequence[ThreatModel], shapes: Sequence[tuple[int, ...]], size: int
) -> ThreatModel:
    """Return one threat model for flat samples that begin with what several others may move.

    What follows has no room to speak of, and no bounds. In linf each part has a budget of its own;
    in l2 they share one.

    Parameters
    ----------
    threats
        Of one norm and one ε; each may have other units and another box.
    shapes
        Of a sample of each, one behind the other.
    size
        How many values a sample has in all.
    """
    factor, lower, upper = (
        np.full((1, size), rest, np.float32) for rest in (NO_ROOM, -np.inf, np.inf)
    )
    start = 0
    for threat, shape in zip(threats, shapes, strict=True):
        end = start + math.prod(shape)
        for whole, part in ((factor, threat.factor), (lower, threat.lower), (upper, threat.upper)):
            whole[0, start:end] = np.broadcast_to(part[0], shape).reshape(-1)
        start = end
    return ThreatModel(threats[0].norm, threats[0].eps, factor, lower, upper)


def make_threat(
    norm: str,
    eps: float,
    spec: InputSpec,
    preprocessing: Preprocessing,
    box: tuple[float, float] | None = (0.0, 1.0),
    unit: float = 1.0,
) -> ThreatModel:
    """Turn a budget in data units into one in model units.

    Parameters
    ----------
    norm, eps
        As in :class:`ThreatModel`.
    spec
        The model's input, for its rank and channels.
    preprocessing
        What turns data units into model units.
    box
        Range of valid data in data units; ``None`` for none.
    unit
        How many data units a budget of one is.

    Raises
    ------
    UsageError
        An unknown norm, or a budget that is not positive.
    """
    _check(norm, eps)
    channels = spec.channels or 1
    shape = [1] * len(spec.shape)
    if spec.channel_axis is not None:
        shape[spec.channel_axis] = channels
    factor = (preprocessing.factor(channels) * np.float32(unit)).reshape(shape)
    if box is None:
        low, high = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    else:
        low, high = (bound.reshape(shape) for bound in preprocessing.box(*box, channels=channels))
    return ThreatModel(norm, eps, factor, low, high)  # type: ignore[arg-type]


def check_width(threat: ThreatModel, eps: float) -> None:
    """Raise UsageError where a linf budget is larger than the whole box: 8 in place of 8/255."""
    width = float(((threat.upper - threat.lower) / threat.factor)[threat.factor > NO_ROOM].min())
    # The bounds were rounded on their way to model units.
    if threat.norm == "linf" and eps > width * (1 + 1e-5):
        raise UsageError(
            f"--eps {eps:g} is more than the whole range of the data, {width:g}: on the scale of "
            "pixels in [0, 1] eight levels of 255 are 8/255"
        )


def make_relative_threat(norm: str, eps: float, unit: float, rank: int) -> ThreatModel:
    """Return a budget in multiples of ``unit``, without a box: for tensors that are no data.

    Parameters
    ----------
    norm, eps
        As in :class:`ThreatModel`.
    unit
        What ε is relative to, in model units: the root mean square of the tensor.
    rank
        Of a batch.

    Raises
    ------
    UsageError
        An unknown norm, or a budget that is not positive.
    """
    _check(norm, eps)
    shape = [1] * rank
    low, high = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    return ThreatModel(norm, eps, np.full(shape, unit, np.float32), low, high)  # type: ignore[arg-type]


def _check(norm: str, eps: float) -> None:
    if norm not in get_args(Norm):
        raise UsageError(f"--norm takes {' or '.join(get_args(Norm))}, not {norm!r}")
    if not (eps > 0 and np.isfinite(eps)):
        raise UsageError(f"--eps must be above 0, not {eps:g}")
