"""Independent labels as a choice among K + 1, so that every loss on classes is one on labels.

With the signs s = 2y − 1 of the labels y in {0, 1}ᴷ, let

    L = [0, −s₁ Z₁, …, −s_K Z_K]          the right class is 0

Class 0 says that all labels are as they should be, class k that label k is the other way. The
largest of L is 0 exactly where all labels match, its margin is the smallest s_k Z_k, and a target
class k is an attack on one label. The losses of :mod:`~cloakify.graph.attack_steps.losses` are
taken on L; the cross-entropy's place has the sum of the labels' binary losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of

# Below this log-odds, log(1 + eᵗ) is eᵗ − e²ᵗ/2 to the precision of float32.
_FAR = -7.0


@dataclass(frozen=True)
class LabelChoice:
    """The choice that labels are.

    Attributes
    ----------
    logits
        L [N, K + 1].
    labels
        The right class of each sample, 0; int64 [N].
    """

    logits: Tensor
    labels: Tensor
    _signs: Tensor

    def back(self, builder: Builder, gradient: Tensor) -> Tensor:
        """Return the gradient with respect to the labels' logits [N, K] from that of L."""
        own = _of_labels(builder, gradient, shape_of(self._signs)[1])
        return builder.neg(builder.mul(own, self._signs))


def as_choice(builder: Builder, logits: Tensor, labels: Tensor) -> LabelChoice:
    """Return logits [N, K] and labels int64 [N, K] of 0 and 1 as a choice among K + 1."""
    samples, count = shape_of(logits)
    y = builder.cast(labels, logits.dtype)
    two, one = builder.scalar(2.0, logits), builder.scalar(1.0, logits)
    signs = builder.sub(builder.mul(y, two), one)
    signs.shape = [samples, count]
    against = builder.neg(builder.mul(logits, signs))
    nothing = builder.constant(np.zeros((samples, 1), logits.dtype))
    both = builder.op("Concat", nothing, against, axis=1)
    both.shape = [samples, count + 1]
    return LabelChoice(both, builder.constant(np.zeros(samples, np.int64)), signs)


def rival_class(builder: Builder, targets: Tensor) -> Tensor:
    """Return the classes [N] of labels that are to be the other way."""
    return builder.op("Add", targets, builder.constant(np.array(1, np.int64)), dtype=np.int64)


def label_sum(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``Σ_{k≥1} log(1 + exp L_k)``, the sum of the labels' binary cross-entropies.

    Its gradient is σ(L_k), and 0 for class 0.
    """
    odds = _odds(builder, logits)
    values, slopes = _softplus(builder, odds, builder.scalar(0.0, logits))
    loss = builder.sum(values, [1], keepdims=False)
    return loss, _with_class_0(builder, logits, slopes)


def log_label_sum(
    builder: Builder, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The logarithm of :func:`label_sum`: it rises with it, and its gradient points the same way.

    For steps that take no more of a loss than directions and order it is better, since sum and
    gradient are scaled by e to the largest odds where all are small: neither underflows, however
    sure the model is of every label.
    """
    odds = _odds(builder, logits)
    largest = builder.op("ReduceMax", odds, builder.ints(1))
    shift = builder.op("Min", largest, builder.scalar(0.0, logits))
    values, slopes = _softplus(builder, odds, shift)
    total = builder.sum(values, [1])
    loss = builder.add(builder.op("Log", total), shift)
    gradient = builder.div(slopes, total)
    return builder.reshape(loss, [shape_of(logits)[0]]), _with_class_0(builder, logits, gradient)


LABEL_LOSSES = {"ce": label_sum}
"""What stands in for losses on classes that have no meaning on labels."""

LABEL_LOSSES_FOR_STEPS = {"ce": log_label_sum}
"""And for steps that take only directions and the order of losses."""


def _odds(builder: Builder, logits: Tensor) -> Tensor:
    """Return the log-odds [N, K] against each label."""
    samples, count = shape_of(logits)
    odds = _of_labels(builder, logits, count - 1)
    odds.shape = [samples, count - 1]
    return odds


def _of_labels(builder: Builder, values: Tensor, count: int) -> Tensor:
    """Return the columns of values [N, K + 1] that belong to the K labels."""
    return builder.op("Slice", values, builder.ints(1), builder.ints(count + 1), builder.ints(1))


def _with_class_0(builder: Builder, logits: Tensor, slopes: Tensor) -> Tensor:
    nothing = builder.constant(np.zeros((shape_of(logits)[0], 1), logits.dtype))
    return builder.op("Concat", nothing, slopes, axis=1)


def _softplus(builder: Builder, odds: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(1 + eᵗ) and its slope σ(t), both times e^−shift; shift ≤ 0.

    Far below 0, where the shift may be too, both are powers, e^(t − shift) but for their own
    e^t's share.
    """
    one, half = builder.scalar(1.0, odds), builder.scalar(0.5, odds)
    bound = builder.scalar(_FAR, odds)
    power = builder.op("Exp", odds)
    scaled = builder.op("Exp", builder.sub(odds, shift))
    far_value = builder.mul(scaled, builder.sub(one, builder.mul(power, half)))
    far_slope = builder.mul(scaled, builder.sub(one, power))
    # log(1 + eᵗ) = max(t, 0) + log(1 + e^−|t|)
    inner = builder.op("Exp", builder.neg(builder.op("Abs", odds)))
    tail = builder.op("Log", builder.add(inner, one))
    value = builder.add(builder.op("Max", odds, builder.scalar(0.0, odds)), tail)
    near = builder.op("Exp", builder.neg(builder.op("Max", shift, bound)))
    far = builder.compare("Less", odds, bound)
    return (
        builder.where(far, far_value, builder.mul(value, near)),
        builder.where(far, far_slope, builder.mul(builder.op("Sigmoid", odds), near)),
    )
