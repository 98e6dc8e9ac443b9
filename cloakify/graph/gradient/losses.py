"""Losses on logits, each with its gradient with respect to them.

An attacker increases them. All are per sample, so no sample's gradient depends on another's; the
largest-other-class terms use the first of equal classes. Z are the logits [N, C], y the labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cloakify.graph.gradient.builder import Builder, Tensor

# (builder, logits [N, C], labels int64 [N], targets int64 [N] or None)
# -> (loss [N], its gradient [N, C])
Loss = Callable[[Builder, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def cross_entropy(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``log Σ exp Z − Z_y``; its gradient is ``softmax Z − onehot y``."""
    chosen = one_hot(builder, logits, labels)
    log_p = builder.op("LogSoftmax", logits, axis=-1)
    loss = builder.neg(builder.sum(builder.mul(log_p, chosen), [1], keepdims=False))
    return loss, builder.sub(builder.op("Exp", log_p), chosen)


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
    "margin": margin,
    "dlr": dlr,
    "targeted-dlr": targeted_dlr,
    "targeted-margin": targeted_margin,
}
TARGETED = {"targeted-dlr", "targeted-margin"}


def one_hot(builder: Builder, logits: Tensor, classes: Tensor) -> Tensor:
    """Return [N, C], 1 where the column is the row's class, in the dtype of ``logits``."""
    samples, count = logits.shape
    columns = builder.constant(np.arange(count, dtype=np.int64)[None])
    return builder.cast(
        builder.compare("Equal", builder.reshape(classes, [samples, 1]), columns), logits.dtype
    )


def _strongest_other(builder: Builder, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the one-hot rows of the largest logit that is not the label's."""
    chosen = builder.compare(
        "Greater", one_hot(builder, logits, labels), builder.scalar(0.5, logits)
    )
    lowest = builder.scalar(float(np.finfo(logits.dtype).min), logits)
    others = builder.where(chosen, lowest, logits)
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
    samples = logits.shape[0]
    tiny = builder.scalar(1e-12, logits)
    below = builder.add(builder.reshape(_dot(builder, logits, spread), [samples, 1]), tiny)
    value = builder.div(builder.reshape(_dot(builder, logits, gap), [samples, 1]), below)
    gradient = builder.div(builder.sub(gap, builder.mul(value, spread)), below)
    return builder.reshape(value, [samples]), gradient
