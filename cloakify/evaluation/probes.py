"""What a model's outputs and gradients are like, before any attack is run.

Each probe yields one flag a sample; what share of flags is too large is for
:mod:`cloakify.evaluation.warnings` to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Target, ThreatModel
from cloakify.attacks.leading import layer_answers, led_by_layer
from cloakify.attacks.starts import random_corner, random_in_ball
from cloakify.data import Batch
from cloakify.errors import NoGradientError
from cloakify.evaluation.samples import Samples
from cloakify.graph.model.quantised import is_quantised
from cloakify.numeric.arrays import Array, Doubles, Flags, Labels, as_rows, floats
from cloakify.numeric.judging import is_right, margins, predicted
from cloakify.numeric.norms import dual_lengths

PRECISION = float(np.finfo(np.float32).eps)

# Two runs of one model differ by less than this, relative to the largest logit, where only the
# order of a parallel sum changed.
REPEATABLE = 1e-4

# From this gap between the two largest logits on, 1 − p of the softmax is rounded away.
SATURATED_GAP = -float(np.log(PRECISION / 2))

# Slopes that are so many times smaller than a sample's mean one decide nothing.
SMALL = 0.1

# The cosine of two gradients from which on the way uphill by one is a way uphill by the other.
ALONG = 0.1

# Moves are of that part of the budget, so many of them, and the least correlation of what they do
# with what the gradient promises: on the sample models its median is 0.94 and more (linf up to
# 16/255, l2 up to 0.9), and 0.1 where only the largest tenth of each layer's numbers is kept.
MOVE, MOVES, TOLD = 0.125, 16, 0.6

# Moves within a quantised model's steps do nothing, which tells nothing of longer ones: over that
# part of the budget uphill it does at least that part of what its gradient promises (with 8 bits,
# for nine samples in ten 0.36 and more from 1/255 to 16/255; slopes torn on purpose keep 0.02).
FURTHER, KEPT = 0.5, 0.25

# Of the random points.
_SEED = 0

# How far a row of probabilities may be from summing to 1.
SUM_SLACK = 1e-3


@dataclass(frozen=True)
class Probes:
    """Flags of n samples, bool [n] each.

    Attributes
    ----------
    clean
        Classified rightly.
    unstable
        A second run returned other logits.
    flat
        The input gradient of the margin, followed over the whole budget, would not change a logit
        of float32; all of them where no gradient reaches the input.
    saturated
        The softmax of the logits is 0 and 1 to float precision.
    on_probabilities
        What the losses take for logits is a vector of probabilities, or the head's features are.
    overruled
        The whole model answers with another class than its head: to the sample, to a random point
        of its ball, or to where one step along the gradient leads.
    """

    clean: Flags
    unstable: Flags
    flat: Flags
    saturated: Flags
    on_probabilities: Flags
    overruled: Flags


def probe_model(
    target: Target, threat: ThreatModel, samples: Samples, *, gradients: bool
) -> Probes:
    """Look at clean samples.

    Parameters
    ----------
    threat
        With the largest budget.
    gradients
        Whether to look at gradients; without, no sample counts as flat.

    Raises
    ------
    UnsupportedOperatorError
        Gradients are wanted and an operator has no rule.
    """
    x = samples.x
    features, logits = target.features_and_logits(x)
    gradient = margin_gradient(target, x, samples.y) if gradients else np.zeros_like(x)
    again = target.logits(x)
    near = random_in_ball(x, samples.index, [0] * len(x), threat, _SEED)
    uphill = floats(x + np.sign(gradient) * threat.radius)
    return Probes(
        clean=is_right(logits, samples.y),
        unstable=unstable(logits, again),
        flat=flat_gradients(gradient, logits, threat) & gradients,
        saturated=saturated(logits, independent=target.independent),
        on_probabilities=_on_probabilities(target, features, logits),
        overruled=np.any(
            [target.logits_and_overruled(part)[1] for part in (x, near, threat.project(uphill, x))],
            axis=0,
        ),
    )


def blind_samples(
    target: Target, threat: ThreatModel, batch: Batch, *, straight_through: bool
) -> Flags:
    """Tell for which samples an attack's own gradient is flat; see :func:`flat_gradients`.

    Parameters
    ----------
    straight_through
        Whether the attack goes through steps and levels; see
        :class:`~cloakify.graph.attack_steps.build.GradientSpec`.
    """
    x = floats(batch.x)
    slope = margin_gradient(target, x, batch.y, straight_through=straight_through)
    return flat_gradients(slope, target.logits(x), threat)


def bent_at_borders(target: Target, threat: ThreatModel, batch: Batch) -> float:
    """Return for which share of the numbers the gradient on the border is another than inside.

    That is one which is less than half, or more than one and a half times, what it is a hair
    inside, as far as that is not small beside the sample's other numbers. The points are random
    corners of each sample's ball, cut to the box, where iterates of attacks lie; the margin is that
    of the model's own answer.
    """
    x = floats(batch.x)
    corner = random_corner(x, batch.index, [0] * len(x), threat, _SEED)
    near = threat.inside(x[0].size).project(corner, x)
    y = predicted(target.logits(x), independent=target.independent)
    on, off = (margin_gradient(target, part, y) for part in (corner, near))
    size = np.abs(off)
    counts = size > SMALL * size.mean(axis=tuple(range(1, x.ndim)), keepdims=True)
    return float(np.mean((np.abs(on - off) > size / 2) & counts))


def untold_moves(target: Target, threat: ThreatModel, samples: Samples) -> float:
    """Return the share of samples of which the gradient tells little of what small moves do.

    Each is moved at random to both sides, by a part of the budget. Where what this does to the
    margin of the model's own answer hardly goes along with what the gradient promises, the slopes
    are those of pieces that are smaller yet: of masks that change with what they mask, of rounding.
    Of a quantised model, which rounds by design, that counts where the gradient does not lead
    further either. Of flat slopes :attr:`Probes.flat` tells.
    """
    x, ball = samples.x, threat.with_eps(threat.eps * MOVE)
    y = predicted(target.logits(x), independent=target.independent)
    gradient = margin_gradient(target, x, y)

    def moved(ahead: Array, ball: ThreatModel) -> tuple[Doubles, Doubles]:
        """Return what the gradient promises of a move to both sides, and what it does, [n]."""
        behind = ball.project(2 * x - ahead, x)
        ends = np.concatenate([target.logits(ahead), target.logits(behind)])
        fore, aft = np.split(margins(ends, np.concatenate([y, y])), 2)
        slope = as_rows(gradient).astype(np.float64)
        promised: Doubles = np.einsum("nd,nd->n", slope, as_rows(ahead - behind))
        return promised, (aft - fore).astype(np.float64)

    with np.errstate(invalid="ignore"):
        corners = (
            random_corner(x, samples.index, [number] * len(x), ball, _SEED)
            for number in range(MOVES)
        )
        moves = [moved(corner, ball) for corner in corners]
        told, done = map(np.stack, zip(*moves, strict=True))
        told, done = (each - each.mean(axis=0) for each in (told, done))
        lengths = np.sqrt(np.square(told).sum(axis=0) * np.square(done).sum(axis=0))
        along = (told * done).sum(axis=0)
    # What does not move does as it is told; what is no number says nothing.
    untold = (np.abs(done).max(axis=0) > 0) & (along < TOLD * lengths)
    if untold.any() and is_quantised(target.model):
        ball = threat.with_eps(threat.eps * FURTHER)
        uphill = ball.project(floats(x + np.sign(gradient) * ball.radius), x)
        told_further, done_further = moved(uphill, ball)
        untold &= ~(done_further > KEPT * told_further)
    return float(untold.mean())


def turned_behind_layer(target: Target, batch: Batch) -> float:
    """Return for which share of the samples what the model makes of a layer's scores misleads.

    There the gradient of the margin of the model's own answer hardly goes along with that of the
    layer's scores, which answer the same. 0 where the model bends no layer's scores.
    """
    led = led_by_layer(target)
    if led is None:
        return 0.0
    x = floats(batch.x)
    y = predicted(target.logits(x), independent=target.independent)
    rows = np.flatnonzero(layer_answers(target, x, y))
    if not len(rows):
        return 0.0
    own, layer = (
        as_rows(margin_gradient(each, x[rows], y[rows])).astype(np.float64)
        for each in (target, led)
    )
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(layer, axis=1)
    along = np.einsum("nd,nd->n", own, layer) > ALONG * lengths
    return float((~along).sum() / len(x))


def margin_gradient(
    target: Target, x: Array, y: Labels, *, straight_through: bool = False
) -> Array:
    """Return the input gradient of the margin; 0 where none reaches the input."""
    try:
        return target.evaluate(x, y, "margin", straight_through=straight_through).gradient
    except NoGradientError:
        return np.zeros_like(x)


def unstable(first: Array, second: Array) -> Flags:
    """Tell which samples' logits [n, C] differ between two runs."""
    scale = np.abs(first).max(axis=1)
    same: Flags = np.abs(first - second).max(axis=1) <= REPEATABLE * scale
    return ~same


def flat_gradients(gradient: Array, logits: Array, threat: ThreatModel) -> Flags:
    """Tell for which samples the gradient promises a change below the logits' own precision.

    To first order the budget changes the margin by ε·‖g‖₁ (linf) or ε·‖g‖₂ (l2), g in data units.
    """
    slope = gradient.astype(np.float64) * threat.factor
    change = threat.eps * dual_lengths(slope, threat.norm)
    steep: Flags = change > PRECISION * np.abs(logits).max(axis=1)
    return ~steep


def saturated(logits: Array, *, independent: bool = False) -> Flags:
    """Tell for which samples the largest probability rounds to 1 and its complement to 0.

    Of independent labels that goes for each of their sigmoids.
    """
    if independent:
        sure: Flags = np.abs(logits).min(axis=1) > SATURATED_GAP
        return sure
    top = np.sort(logits, axis=1)[:, -2:]
    flags: Flags = top[:, 1] - top[:, 0] > SATURATED_GAP
    return flags


def _on_probabilities(target: Target, features: Array, logits: Array) -> Flags:
    if target.scores.probabilities:
        # What is shown here is; what gradients are taken of is not.
        return np.zeros(len(logits), np.bool_)
    if target.independent:
        return shares(logits)
    return on_probabilities(as_rows(features, len(logits)), logits)


def on_probabilities(features: Array, logits: Array) -> Flags:
    """Tell for which samples logits [n, C] are probabilities, or the head's features are."""
    return probabilities(logits) | probabilities(features, logits.shape[1])


def shares(logits: Array) -> Flags:
    """Tell for which samples the logits [n, K] of labels all lie between 0 and 1."""
    inside: Flags = (logits >= 0) & (logits <= 1)
    return np.asarray(inside.all(axis=1))


def probabilities(rows: Array, classes: int | None = None) -> Flags:
    """Tell which rows [n, D] are probabilities: none negative, and they sum to 1.

    Parameters
    ----------
    classes
        Rows of another length are not.
    """
    if rows.shape[1] < 2 or classes not in (None, rows.shape[1]):
        return np.zeros(len(rows), np.bool_)
    sums = rows.sum(axis=1, dtype=np.float64)
    flags: Flags = (rows >= 0).all(axis=1) & (np.abs(sums - 1) <= SUM_SLACK)
    return flags
