"""Try attacks where it is known that there is something to find.

Zimmermann, Brendel, Tramèr & Carlini, Increasing Confidence in Adversarial Robustness Evaluations
(NeurIPS 2022): the model's head is replaced by a readout of its features that tells one point on
the border of a sample's ball from points inside. That point is an adversarial sample then, whatever
the model itself withstands, and an attack that finds none in the same ball does not see what moves
the features. It is drawn at random: no attack and no gradient has a part in it.

A readout of the features goes by those that move most, which need not be what the answer is made
of: a few whose slopes lead nowhere may decide it, while others that hardly count have true ones. So
the same is done with the logits. Among so few numbers a random point is no further out than those
that an attack comes by at random; the point is where differences over the whole ball lead, then,
which no slope has a part in either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Attack, Target, ThreatModel
from cloakify.attacks.starts import random_corner, random_in_ball
from cloakify.evaluation.attack_models import withstands
from cloakify.evaluation.samples import Samples
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.readouts import Readouts, with_readouts
from cloakify.numeric.arrays import Array, Flags, Indices, as_rows, evenly, floats
from cloakify.numeric.judging import margins

# For how many samples a point is planted: of so many, what sees half of what moves the features
# misses two or more as a rule.
PLANTED = 8
# Points inside a ball that its readout tells from the planted one, besides the sample itself.
INSIDE = 15
# Where readouts stand: behind the features, and behind the logits.
PLACES = 2
# Pairs of opposite points on the border whose difference in the margin tells where it falls.
PAIRS = 32
# Forward passes that each sample takes besides the attacks: in each place for its features and for
# the proof, and for the differences.
PASSES = PLACES * 2 * (INSIDE + 2) + 2 * PAIRS
# Radius of theirs over the ball's: the paper's η.
NEAR = 0.95
# Where between the points inside and the planted one the answer changes: closer to that, so that a
# part of the way, which a random point may go, does not do.
BORDER = 0.9
# Planted points below which nothing can be said.
FEWEST = 4
# Features beyond which readouts are too large a table to be made for a look.
MOST_FEATURES = 1 << 18
# Which draws the points are, apart from those of attacks and of noise.
_DRAW = 1 << 29


@dataclass(frozen=True)
class PlantedTest:
    """How attacks fared where there was something to find.

    Attributes
    ----------
    attacks
        Their names.
    planted
        For how many samples there is an adversarial point, which the edited graph bears out.
    found
        For how many of them an attack found one.
    obstacle
        Why there are too few to say anything, or "".
    """

    attacks: tuple[str, ...]
    planted: int = 0
    found: int = 0
    obstacle: str = ""


def try_planted(
    target: Target,
    attacks: Sequence[Attack],
    threat: ThreatModel,
    samples: Samples,
    seed: int,
) -> PlantedTest | None:
    """Plant an adversarial point in the balls of some samples and have attacks look for one.

    Parameters
    ----------
    attacks
        That follow the gradient; each is tried on what those before it left.
    threat
        With the budget.
    samples
        As :func:`planted_in` chooses them.
    seed
        Of what is planted.

    Returns
    -------
    PlantedTest or None
        ``None`` where there are no attacks.
    """
    if not attacks:
        return None
    names = tuple(attack.name for attack in attacks)
    count = len(samples.y)
    if count < FEWEST:
        return PlantedTest(names, obstacle=f"it takes {FEWEST} samples")
    single = [samples.at(np.array([row])) for row in range(count)]
    balls = [_Ball(each, threat, seed, _random_point(each, threat, seed)) for each in single]
    first = _try_behind(target, target.scores.features, balls, attacks, samples)
    if target.scores.features == target.scores.logits:
        return first
    balls = [_Ball(each, threat, seed, _led_to(target, each, threat, seed)) for each in single]
    second = _try_behind(target, target.scores.logits, balls, attacks, samples)
    tests = [test for test in (first, second) if not test.obstacle]
    if not tests:
        return first
    planted = sum(test.planted for test in tests)
    return PlantedTest(names, planted, sum(test.found for test in tests))


def _try_behind(
    target: Target,
    value: str,
    balls: Sequence[_Ball],
    attacks: Sequence[Attack],
    samples: Samples,
) -> PlantedTest:
    """Put readouts behind a value of the graph, and have attacks look for the planted points.

    Parameters
    ----------
    value
        Name of the features, or of the logits.
    balls
        Of the samples, in their order.
    """
    names, threat = tuple(attack.name for attack in attacks), balls[0].threat
    fitted = []
    for ball in balls:
        points = ball.points
        features = target.features_and_logits(points)[value != target.scores.features]
        if len(features) != len(points):
            return PlantedTest(names, obstacle="its features are not counted by samples")
        rows = as_rows(features, len(points))
        if rows.shape[1] > MOST_FEATURES:
            return PlantedTest(names, obstacle=f"its head takes {rows.shape[1]} features")
        fitted.append(fit_readout(rows))
    kept = [place for place, readout in enumerate(fitted) if readout is not None]
    if len(kept) < FEWEST:
        return PlantedTest(names, len(kept), obstacle=_ALIKE)
    chosen = samples.at(np.array(kept))
    readouts = [readout for readout in fitted if readout is not None]
    copy = _copy_with(target, value, chosen.x, readouts)
    proven = np.array([balls[place].holds_one(copy) for place in kept])
    if proven.sum() < FEWEST:
        return PlantedTest(names, int(proven.sum()), obstacle=_ALIKE)
    part = chosen.at(proven)
    inside = Samples(part.x, np.zeros(len(part.index), np.int64), part.index)
    left = _withstanding(copy, attacks, threat, inside)
    return PlantedTest(names, len(left), int((~left).sum()))


_ALIKE = "too few points on the border of a ball have features that those inside have not"


def planted_in(indices: Indices) -> Indices:
    """Choose ``PLANTED`` of the samples that there are, evenly from all."""
    return evenly(indices, PLANTED)


@dataclass(frozen=True)
class Readout:
    """``w·(φ − c) + b``, above 0 for the planted point and below 0 for those inside.

    Attributes
    ----------
    centre, weight
        float32 [D]: c, the features of the sample itself, and w.
    bias
        b.
    """

    centre: Array
    weight: Array
    bias: float


def fit_readout(rows: Array) -> Readout | None:
    """Return the readout that tells the last row by the widest margin from the others, if one does.

    That margin's normal leads to the last row from the point of the others' hull that is nearest to
    it, a problem with non-negative least squares for a dual (LDP: Lawson & Hanson, Solving Least
    Squares Problems, 1974, chapter 23, section 4). The readout goes up by 1 across the margin.

    Parameters
    ----------
    rows
        Features [n, D]; the first are those of the sample itself.

    Returns
    -------
    Readout or None
        ``None`` where the last row lies in the hull of the others or all but, or rows are not
        finite.
    """
    # Imported where it is needed: it takes as long as all else together.
    from scipy.optimize import nnls

    moved = rows.astype(np.float64) - rows[0]
    scale = float(np.abs(moved).max())
    if not 0 < scale < np.inf:
        return None
    moved /= scale
    toward = moved[-1] - moved[:-1]
    # Only what they span counts, and that has few dimensions.
    basis, within = np.linalg.qr(toward.T)
    system = np.concatenate([within, np.ones((1, len(toward)))])
    wanted = np.zeros(len(system))
    wanted[-1] = 1
    shares, _ = nnls(system, wanted)
    rest = system @ shares - wanted
    if not rest[-1] < 0:
        return None
    weight = basis @ (rest[:-1] / -rest[-1])
    values = moved @ weight
    largest = float(values[:-1].max())
    gap = float(values[-1]) - largest
    if not gap > 0:
        return None
    weight /= gap * scale
    # Where features hardly differ, no float32 is large enough to tell them apart.
    if not np.abs(weight).max() <= np.finfo(np.float32).max:
        return None
    return Readout(floats(rows[0]), floats(weight), -(largest / gap + BORDER))


def _random_point(sample: Samples, threat: ThreatModel, seed: int) -> Array:
    """Return a random point on the border of a single sample's ball."""
    return random_corner(sample.x, sample.index, [_DRAW + INSIDE], threat, seed)


def _led_to(target: Target, sample: Samples, threat: ThreatModel, seed: int) -> Array:
    """Return where the margin of a single sample falls by differences over its whole ball.

    Between opposite points on the border, as those that SPSA takes (Spall, IEEE Transactions on
    Automatic Control 37, 1992; as an attack: Uesato et al., arXiv 1802.05666).
    """
    numbers = [_DRAW + INSIDE + 1 + place for place in range(PAIRS)]
    repeated = sample.at(np.zeros(PAIRS, np.int64))
    x, index, labels = repeated.x, repeated.index, repeated.y
    ahead = random_corner(x, index, numbers, threat, seed)
    behind = threat.project(2 * x - ahead, x)
    with np.errstate(invalid="ignore"):
        gain, loss = (margins(target.logits(end), labels) for end in (ahead, behind))
        # In shares of the radius.
        moves = as_rows((behind - ahead) / threat.radius).astype(np.float64)
        slope = (moves.T @ (gain - loss)).reshape(sample.x.shape)
    length = np.abs(slope).max() if threat.norm == "linf" else np.sqrt(np.square(slope).sum())
    if not 0 < length < np.inf:
        return _random_point(sample, threat, seed)
    step = np.sign(slope) if threat.norm == "linf" else slope / length
    return threat.project(floats(sample.x + step * threat.radius), sample.x)


@dataclass(frozen=True)
class _Ball:
    """The ball around a single sample, and the points that are drawn in it.

    Attributes
    ----------
    border
        The one that is planted, [1, …].
    """

    sample: Samples
    threat: ThreatModel
    seed: int
    border: Array

    @property
    def points(self) -> Array:
        """The sample, points inside, and one on the border, [INSIDE + 2, …]."""
        return np.concatenate([self.sample.x, *self._inside(), self.border])

    def holds_one(self, copy: Target) -> bool:
        """Tell whether the edited graph answers otherwise on the border than it does inside."""
        points = self.points
        inside = copy.correct(points, np.zeros(len(points), np.int64))
        return bool(inside[:-1].all() and not inside[-1])

    def _inside(self) -> Iterator[Array]:
        near = self.threat.with_eps(NEAR * self.threat.eps)
        for place in range(INSIDE):
            yield random_in_ball(self.sample.x, self.sample.index, [_DRAW + place], near, self.seed)


def _copy_with(target: Target, value: str, x: Array, fitted: Sequence[Readout]) -> Target:
    """Return the target with readouts, one for each of some samples, behind one of its values."""
    readouts = Readouts(
        samples=as_rows(x),
        centre=np.stack([readout.centre for readout in fitted]),
        weight=np.stack([readout.weight for readout in fitted]),
        bias=np.array([readout.bias for readout in fitted], np.float32),
    )
    model, logits = with_readouts(target.model, target.spec.name, value, readouts)
    return target.of(model, Scores(Task.SINGLE, logits, logits, 2, value, ()))


def _withstanding(
    target: Target, attacks: Sequence[Attack], threat: ThreatModel, samples: Samples
) -> Flags:
    """Tell of which samples none of the attacks finds an adversarial point."""
    left: Flags = np.ones(len(samples.y), np.bool_)
    for attack in attacks:
        left = withstands(attack, target, samples, threat, left)
    return left
