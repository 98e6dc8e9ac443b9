"""One iteration of Auto-PGD as part of the gradient graph.

Croce & Hein, arXiv 2003.01690, algorithm 1. For every sample on its own (η is its step size, P the
projection to ball and box, d the direction of steepest ascent, f the loss):

    at a checkpoint w_j: if f rose in fewer than ρ·(w_j − w_{j−1}) of the steps since the last one,
        or neither η nor the best loss has changed since then:
            η ← η/2,  x ← x_best
    z     = P(x + η·d)
    x_new = P(x + α·(z − x) + (1 − α)·(x − x_previous))

All that an iteration needs to know of the ones before it goes in and comes out again, and stays on
the device meanwhile.
"""

from __future__ import annotations

import numpy as np

from cloakify.graph.attack_steps.steps import (
    AFTER,
    FOOLED,
    NEXT,
    Ball,
    Outputs,
    add_input,
    add_resting,
    iteration_step,
    over_samples,
)
from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of

PREVIOUS = "cloakify_previous"
BEST = "cloakify_best"
BEST_GRADIENT = "cloakify_best_gradient"
BEST_LOSS = "cloakify_best_loss"
LAST_LOSS = "cloakify_last_loss"
STEP_SIZES = "cloakify_step_sizes"
RISES = "cloakify_rises"
CHECKED_LOSS = "cloakify_checked_loss"
HALVED = "cloakify_halved"
INERTIA = "cloakify_inertia"
THRESHOLD = "cloakify_threshold"

VECTORS = (BEST_LOSS, LAST_LOSS, STEP_SIZES, RISES, CHECKED_LOSS, HALVED)
CARRIED = (PREVIOUS, BEST, BEST_GRADIENT, *VECTORS)


@iteration_step("apgd")
def add_apgd_step(
    builder: Builder, norm: str, x: Tensor, loss: Tensor, gradient: Tensor, fooled: Tensor
) -> Outputs:
    """Append one iteration; return the next iterates, whom x fools, and what is carried on.

    Adds the inputs of :class:`~cloakify.graph.attack_steps.steps.Ball` and
    :func:`~cloakify.graph.attack_steps.steps.add_resting`, those of ``CARRIED`` (the first three in
    the shape of x, the others [N], all in its dtype), and for this iteration:
    ``cloakify_inertia`` [N], α; and ``cloakify_threshold`` [N], ρ·(w_j − w_{j−1}) at a sample's
    checkpoint and 0 elsewhere.

    Start with best and last losses −∞ and ∞, step sizes 2ε, ``rises`` 0, ``halved`` 1.
    """
    ball = Ball(builder, norm, x)
    samples = shape_of(x)[0]
    large = [add_input(builder, name, x.dtype, ball.shape) for name in CARRIED[:3]]
    previous, best, best_gradient = large
    best_loss, last_loss, sizes, rises, checked_loss, halved = (
        add_input(builder, name, x.dtype, [samples]) for name in VECTORS
    )
    alpha = over_samples(builder, add_input(builder, INERTIA, x.dtype, [samples]), x)
    threshold = add_input(builder, THRESHOLD, x.dtype, [samples])
    live, resting = add_resting(builder, x, fooled)
    loss = builder.cast(loss, x.dtype)
    zero = builder.scalar(0.0, x)

    improved = _both(builder, builder.compare("Greater", loss, best_loss), live)
    wide = over_samples(builder, improved, x)
    best = builder.where(wide, x, best)
    best_gradient = builder.where(wide, gradient, best_gradient)
    best_loss = builder.where(improved, loss, best_loss)
    rose = builder.cast(builder.compare("Greater", loss, last_loss), x.dtype)
    rises = builder.add(rises, rose)

    checking = builder.compare("Greater", threshold, zero)
    oscillates = builder.compare("Less", rises, threshold)
    stuck = _both(
        builder,
        builder.compare("Equal", halved, zero),
        builder.compare("Equal", checked_loss, best_loss),
    )
    back = _both(builder, checking, builder.op("Or", oscillates, stuck, dtype=np.bool_))
    half = builder.mul(sizes, builder.scalar(0.5, x))
    sizes = builder.where(back, half, sizes)
    halved = builder.where(checking, builder.cast(back, x.dtype), halved)
    checked_loss = builder.where(checking, best_loss, checked_loss)
    rises = builder.where(checking, zero, rises)

    wide = over_samples(builder, back, x)
    base = builder.where(wide, best, x)
    slope = builder.where(wide, best_gradient, gradient)
    ahead = ball.project(ball.climb(base, slope, over_samples(builder, sizes, x)))
    step = builder.mul(builder.sub(ahead, base), alpha)
    rest = builder.sub(builder.scalar(1.0, x), alpha)
    drift = builder.mul(builder.sub(base, previous), rest)
    moved = ball.project(builder.add(base, builder.add(step, drift)))
    carried = (base, best, best_gradient, best_loss, loss, sizes, rises, checked_loss, halved)
    return [
        (NEXT, builder.where(resting, x, moved)),
        (FOOLED, fooled),
        *((name + AFTER, tensor) for name, tensor in zip(CARRIED, carried, strict=True)),
    ]


def _both(builder: Builder, first: Tensor, second: Tensor) -> Tensor:
    return builder.op("And", first, second, dtype=np.bool_)
