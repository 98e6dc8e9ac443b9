"""Losses on logits, each with its gradient with respect to them.

An attacker increases them. All are per sample, so no sample's gradient depends on another's; the
largest-other-class terms use the first of equal classes. Z are the logits [N, C], y the labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of

# (builder, logits [N, C], labels int64 [N], targets int64 [N] or None)
# -> (loss [N], its gradient [N, C])
Loss = Callable[[Builder, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def cross_entropy(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``log Σ exp Z − Z_y``; its gradient is ``softmax Z − onehot y``.

    Written in the log-odds t of :func:`log_odds`: the loss is ``log(1 + eᵗ)``, the gradient
    ``σ(t)·(q − onehot y)`` with q the softmax over the other classes. So neither rounds to 0 when
    the model is sure of y; ``softmax Z − onehot y`` does from p_y = 1 − 6·10⁻⁸ on in float32, and
    the attack would stand still there.
    """
    odds, gradient = log_odds(builder, logits, labels, targets)
    t = builder.reshape(odds, [shape_of(logits)[0], 1])
    # log(1 + eᵗ) = max(t, 0) + log(1 + e⁻ᵗ'), t' = |t|. The logarithm loses its digits where the
    # power p is small; p − p²/2 has them all from t' = 7 on.
    power = builder.op("Exp", builder.neg(builder.op("Abs", t)))
    half = builder.mul(builder.mul(power, power), builder.scalar(0.5, t))
    far = builder.compare("Less", power, builder.scalar(float(np.exp(-7.0)), t))
    log = builder.op("Log", builder.add(power, builder.scalar(1.0, t)))
    tail = builder.where(far, builder.sub(power, half), log)
    loss = builder.add(builder.op("Max", t, builder.scalar(0.0, t)), tail)
    slope = builder.op("Exp", builder.sub(t, loss))
    return builder.reshape(loss, [shape_of(logits)[0]]), builder.mul(gradient, slope)


def log_odds(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``t = log Σ_{i≠y} exp Z_i − Z_y``, the log-odds against y; its gradient is ``q − onehot y``.

    The cross-entropy is ``log(1 + eᵗ)``: it orders samples as t does, and its gradient with respect
    to the input points where t's does. For steps that take no more of it than that, t is better,
    since neither it nor its gradient underflows, however sure the model is.
    """
    samples = shape_of(logits)[0]
    chosen = one_hot(builder, logits, labels)
    others = _without(builder, logits, chosen)
    largest = builder.op("ReduceMax", others, builder.ints(1))
    powers = builder.op("Exp", builder.sub(others, largest))
    total = builder.sum(powers, [1])
    own = builder.sum(builder.mul(logits, chosen), [1])
    t = builder.sub(builder.add(largest, builder.op("Log", total)), own)
    gradient = builder.sub(builder.div(powers, total), chosen)
    return builder.reshape(t, [samples]), gradient


def margin(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``max_{i≠y} Z_i − Z_y``, above 0 exactly when misclassified.

    Carlini & Wagner, arXiv 1608.04644, f₆ without its constant.
    """
    chosen = one_hot(builder, logits, labels)
    rival = _strongest_other(builder, logits, labels)
    difference = builder.sub(rival, chosen)
    return _dot(builder, logits, difference), difference


def dlr(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``−(Z_y − max_{i≠y} Z_i) / (Z_π1 − Z_π3)``, π the descending order (C ≥ 3).

    Croce & Hein, arXiv 2003.01690, equation 6.
    """
    gap = builder.sub(_strongest_other(builder, logits, labels), one_hot(builder, logits, labels))
    ranked = _ranked(builder, logits, 3)
    return _ratio(builder, logits, gap, builder.sub(ranked[0], ranked[2]))


def targeted_dlr(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``−(Z_y − Z_t) / (Z_π1 − (Z_π3 + Z_π4) / 2)`` (C ≥ 4).

    Croce & Hein, arXiv 2003.01690, equation 7.
    """
    assert targets is not None
    gap = builder.sub(one_hot(builder, logits, targets), one_hot(builder, logits, labels))
    ranked = _ranked(builder, logits, 4)
    half = builder.scalar(0.5, logits)
    low = builder.mul(builder.add(ranked[2], ranked[3]), half)
    return _ratio(builder, logits, gap, builder.sub(ranked[0], low))


def targeted_margin(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``Z_t − Z_y``: stands in for the targeted DLR loss where it is undefined (C < 4)."""
    assert targets is not None
    gap = builder.sub(one_hot(builder, logits, targets), one_hot(builder, logits, labels))
    return _dot(builder, logits, gap), gap


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "log-odds": log_odds,
    "margin": margin,
    "dlr": dlr,
    "targeted-dlr": targeted_dlr,
    "targeted-margin": targeted_margin,
}
# What a step that takes only directions and the order of losses follows in place of a loss.
FOR_STEPS = {"ce": "log-odds"}
TARGETED = {"targeted-dlr", "targeted-margin"}


def one_hot(builder: Builder, logits: Tensor, classes: Tensor) -> Tensor:
    """Return [N, C], 1 where the column is the row's class, in the dtype of ``logits``."""
    samples, count = shape_of(logits)
    columns = builder.constant(np.arange(count, dtype=np.int64)[None])
    return builder.cast(
        builder.compare("Equal", builder.reshape(classes, [samples, 1]), columns), logits.dtype
    )


def _without(builder: Builder, logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the logits with those of the one-hot rows ``chosen`` at the lowest number."""
    lowest = builder.scalar(float(np.finfo(logits.dtype).min), logits)
    taken = builder.compare("Greater", chosen, builder.scalar(0.5, logits))
    return builder.where(taken, lowest, logits)


def _strongest_other(builder: Builder, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the one-hot rows of the largest logit that is not the label's."""
    others = _without(builder, logits, one_hot(builder, logits, labels))
    place = builder.op("ArgMax", others, dtype=np.int64, axis=1, keepdims=0)
    return one_hot(builder, logits, place)


def _ranked(builder: Builder, logits: Tensor, count: int) -> list[Tensor]:
    """Return the one-hot rows of the ``count`` largest logits, largest first."""
    _, places = builder.ops("TopK", logits, builder.ints(count), count=2, axis=1)
    places.dtype = np.int64
    return [
        one_hot(
            builder,
            logits,
            builder.op("Gather", places, builder.constant(np.array(rank, np.int64)), axis=1),
        )
        for rank in range(count)
    ]


def _dot(builder: Builder, logits: Tensor, rows: Tensor) -> Tensor:
    return builder.sum(builder.mul(logits, rows), [1], keepdims=False)


def _ratio(builder: Builder, logits: Tensor, gap: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return a/b and its gradient (a' − (a/b)·b')/b for linear a = Z·gap and b = Z·spread.

    b gets AutoAttack's 1e-12, without which equal logits would divide by zero.
    """
    samples = shape_of(logits)[0]
    tiny = builder.scalar(1e-12, logits)
    below = builder.add(builder.reshape(_dot(builder, logits, spread), [samples, 1]), tiny)
    value = builder.div(builder.reshape(_dot(builder, logits, gap), [samples, 1]), below)
    gradient = builder.div(builder.sub(gap, builder.mul(value, spread)), below)
    return builder.reshape(value, [samples]), gradient
