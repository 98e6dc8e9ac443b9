"""Square attack: random search that needs no gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import square_moves as moves
from cloakify.attacks.base import Attack, sample_generator
from cloakify.attacks.fields import at, joined
from cloakify.attacks.jobs import Jobs, share_jobs
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels
from cloakify.numeric.judging import is_right, margins


class Square(Attack):
    """Random search on the margin, one random window at a time.

    Andriushchenko et al., arXiv 1912.00049, with AutoAttack's settings. A proposal is kept when it
    lowers the margin. It sees logits only, so it also works on models without a gradient, and tells
    when a white-box attack is misled. A sample that is misclassified as it is comes back unchanged;
    one that is never fooled comes back as the point of the lowest margin.

    Parameters
    ----------
    queries
        Passes through the model for each sample.
    share
        Share of the pixels that the first windows cover.
    seed
        Of the windows and signs; each sample has its own.
    """

    name = "square"
    gradient = "gradient-free"

    def __init__(self, *, queries: int = 5000, share: float = 0.8, seed: int = 0) -> None:
        self.queries = queries
        self.share = share
        self.seed = seed

    @property
    def steps(self) -> int:
        """Passes through the model for each sample."""
        return self.queries

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`."""
        adversarial = x.copy()

        def work(mine: Jobs[int]) -> None:
            search = _Search(self, target, threat, x.shape)
            while True:
                mine.check()
                fresh = mine.take(search.room())
                if fresh:
                    search.add(np.array(fresh), x[fresh], y[fresh], index[fresh])
                if not len(search.lanes.row):
                    return
                search.advance()
                rows, best = search.take_finished()
                adversarial[rows] = best

        share_jobs(target.workers, np.flatnonzero(target.correct(x, y)).tolist(), work)
        return adversarial


@dataclass(frozen=True)
class _Lanes:
    """The samples under way. Arrays are channels first.

    Attributes
    ----------
    row, y
        Where the sample is among the caller's, and its label.
    slot
        Where its draws are.
    age
        How many queries it has had.
    margin
        The lowest so far.
    fooled
        Whether the last query fooled the model.
    clean, best
        The sample, and its point of the lowest margin.
    """

    row: Labels
    y: Labels
    slot: Labels
    age: Labels
    margin: Array
    fooled: NDArray[np.bool_]
    clean: Array
    best: Array


class _Search:
    """Searches under way."""

    def __init__(
        self, attack: Square, target: Target, threat: ThreatModel, shape: tuple[int, ...]
    ) -> None:
        self.attack, self.target, self.threat = attack, target, threat
        self.axis = target.spec.channel_axis if len(shape) == 4 else None
        self.sample_shape = shape[1:]
        self.factor, self.lower, self.upper = (
            bound.reshape(1, 1, 1, -1) if self.axis is None else np.moveaxis(bound, self.axis, 1)
            for bound in (threat.factor, threat.lower, threat.upper)
        )
        none = channels_first(np.empty((0, *shape[1:]), np.float32), self.axis)
        self.shape = none.shape[1:]
        whole, real = np.zeros(0, np.int64), np.zeros(0, np.float32)
        self.lanes = _Lanes(whole, whole, whole, whole, real, real.astype(np.bool_), none, none)
        numbers = moves.draws_per_query(threat.norm, self.shape[0])
        self.draws = np.empty((target.batch_size, attack.queries, numbers), np.float32)

    def room(self) -> int:
        """Return how many more samples the batch holds."""
        return self.target.batch_size - len(self.lanes.row)

    def add(self, rows: Labels, x: Array, y: Labels, index: Labels) -> None:
        """Start on samples, with the point that the paper starts from."""
        channels, height, width = self.shape
        many = channels * width if self.threat.norm == "linf" else 25 * (channels + 1)
        first = np.empty((len(x), many), np.float32)
        slots = np.setdiff1d(np.arange(self.target.batch_size), self.lanes.slot)[: len(x)]
        for lane, (slot, sample) in enumerate(zip(slots, index, strict=True)):
            generator = sample_generator(self.attack.seed, int(sample))
            first[lane] = generator.random(many, np.float32)
            self.draws[slot] = generator.random(self.draws.shape[1:], np.float32)
        if self.threat.norm == "linf":
            delta = moves.initial_linf(first.reshape(-1, channels, 1, width), self.threat.eps)
        else:
            delta = moves.initial_l2(first, (channels, height, width), self.threat.eps)
        clean = channels_first(x, self.axis)
        unknown = np.full(len(x), np.inf, np.float32)
        self.lanes = joined(
            self.lanes,
            _Lanes(
                rows,
                y,
                slots,
                np.zeros(len(x), np.int64),
                unknown,
                np.zeros(len(x), np.bool_),
                clean,
                self._moved(clean, delta),
            ),
        )

    def advance(self) -> None:
        """Ask the model about one point for each sample; keep those that are better."""
        lanes = self.lanes
        propose = moves.propose_linf if self.threat.norm == "linf" else moves.propose_l2
        # The first query is the start itself; windows are counted from the one after it.
        window = np.maximum(lanes.age - 1, 0)
        proposal = propose(
            (lanes.best - lanes.clean) / self.factor,
            self.draws[lanes.slot, window],
            moves.share(self.attack.share, window),
            self.threat.eps,
        )
        candidate = self._moved(lanes.clean, proposal)
        starting = lanes.age == 0
        candidate[starting] = lanes.best[starting]
        logits = self.target.logits(channels_back(candidate, self.sample_shape, self.axis))
        margin, fooled = margins(logits, lanes.y), ~is_right(logits, lanes.y)
        kept = (margin < lanes.margin) | fooled
        self.lanes = replace(
            lanes,
            age=lanes.age + 1,
            margin=np.where(kept, margin, lanes.margin),
            fooled=fooled,
            best=np.where(kept[:, None, None, None], candidate, lanes.best),
        )

    def take_finished(self) -> tuple[Labels, Array]:
        """Take out the samples that are fooled or whose queries are spent; return rows and x′."""
        over = self.lanes.fooled | (self.lanes.age >= self.attack.queries)
        finished = at(self.lanes, over)
        if over.any():
            self.lanes = at(self.lanes, ~over)
        return finished.row, channels_back(finished.best, self.sample_shape, self.axis)

    def _moved(self, clean: Array, delta: Array) -> Array:
        return np.clip(clean + delta * self.factor, self.lower, self.upper)


def channels_first(x: Array, axis: int | None) -> Array:
    """Return samples as [n, C, H, W]; without a channel axis as [n, 1, 1, values]."""
    if axis is None:
        return x.reshape(len(x), 1, 1, int(np.prod(x.shape[1:])))
    return np.moveaxis(x, axis, 1)


def channels_back(x: Array, sample_shape: tuple[int, ...], axis: int | None) -> Array:
    """Undo :func:`channels_first`."""
    if axis is None:
        return x.reshape(len(x), *sample_shape)
    return np.ascontiguousarray(np.moveaxis(x, 1, axis))
