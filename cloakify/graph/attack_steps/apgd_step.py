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

from dataclasses import dataclass, fields, replace

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
    small = [add_input(builder, name, x.dtype, [samples]) for name in VECTORS]
    before = _Carried(*large, *small)
    alpha = over_samples(builder, add_input(builder, INERTIA, x.dtype, [samples]), x)
    threshold = add_input(builder, THRESHOLD, x.dtype, [samples])
    live, resting = add_resting(builder, x, fooled)
    seen = _look(builder, before, x, builder.cast(loss, x.dtype), gradient, live)
    checked, back = _check(builder, seen, threshold)

    wide = over_samples(builder, back, x)
    base = builder.where(wide, checked.best, x)
    slope = builder.where(wide, checked.best_gradient, gradient)
    ahead = ball.project(ball.climb(base, slope, over_samples(builder, checked.sizes, x)))
    step = builder.mul(builder.sub(ahead, base), alpha)
    rest = builder.sub(builder.scalar(1.0, x), alpha)
    drift = builder.mul(builder.sub(base, before.previous), rest)
    moved = ball.project(builder.add(base, builder.add(step, drift)))
    after = replace(checked, previous=base)
    return [
        (NEXT, builder.where(resting, x, moved)),
        (FOOLED, fooled),
        *((name + AFTER, tensor) for name, tensor in zip(CARRIED, after.in_order(), strict=True)),
    ]


@dataclass(frozen=True)
class _Carried:
    """What is carried from one iteration to the next, in the order of ``CARRIED``."""

    previous: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    last_loss: Tensor
    sizes: Tensor
    rises: Tensor
    checked_loss: Tensor
    halved: Tensor

    def in_order(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


def _look(
    builder: Builder, before: _Carried, x: Tensor, loss: Tensor, gradient: Tensor, live: Tensor
) -> _Carried:
    """Take note of where x is the best point so far, and of where the loss rose."""
    improved = _both(builder, builder.compare("Greater", loss, before.best_loss), live)
    wide = over_samples(builder, improved, x)
    best = builder.where(wide, x, before.best)
    best_gradient = builder.where(wide, gradient, before.best_gradient)
    best_loss = builder.where(improved, loss, before.best_loss)
    rose = builder.cast(builder.compare("Greater", loss, before.last_loss), x.dtype)
    return replace(
        before,
        best=best,
        best_gradient=best_gradient,
        best_loss=best_loss,
        last_loss=loss,
        rises=builder.add(before.rises, rose),
    )


def _check(builder: Builder, seen: _Carried, threshold: Tensor) -> tuple[_Carried, Tensor]:
    """Halve the steps of samples that get no further, at their checkpoints; tell of which, [N]."""
    zero = builder.scalar(0.0, seen.sizes)
    checking = builder.compare("Greater", threshold, zero)
    oscillates = builder.compare("Less", seen.rises, threshold)
    stuck = _both(
        builder,
        builder.compare("Equal", seen.halved, zero),
        builder.compare("Equal", seen.checked_loss, seen.best_loss),
    )
    back = _both(builder, checking, builder.op("Or", oscillates, stuck, dtype=np.bool_))
    half = builder.mul(seen.sizes, builder.scalar(0.5, seen.sizes))
    sizes = builder.where(back, half, seen.sizes)
    halved = builder.where(checking, builder.cast(back, seen.sizes.dtype), seen.halved)
    checked_loss = builder.where(checking, seen.best_loss, seen.checked_loss)
    rises = builder.where(checking, zero, seen.rises)
    after = replace(seen, sizes=sizes, rises=rises, checked_loss=checked_loss, halved=halved)
    return after, back


def _both(builder: Builder, first: Tensor, second: Tensor) -> Tensor:
    return builder.op("And", first, second, dtype=np.bool_)
