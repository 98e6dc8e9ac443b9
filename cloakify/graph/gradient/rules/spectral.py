"""Discrete Fourier transforms: DFT and STFT, from real and complex signals.

Pairs of real numbers, on the last axis, stand for complex ones. With F the matrix of the transform
of length L, ``∂x = F̄ᵀ g``, and F is symmetric: the transpose of the transform is L times the
inverse one, and that of the inverse one is the transform over L.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, Situation, rule
from cloakify.graph.gradient.rules.static import integers, resize_with_zeros, zeros
from cloakify.graph.gradient.support import all_of, known, no_gradient_for
from cloakify.graph.model.constants import constant_integers, given
from cloakify.graph.model.shapes import shape_of


def _frequencies_fit(node: gs.Node, at: Situation) -> str | None:
    """Say where real numbers are made of too few or too many frequencies.

    ONNX Runtime (1.31) has values there that the standard has not.
    """
    # Not known of every graph that is asked about.
    shape = node.inputs[0].shape
    inverse, onesided = (bool(node.attrs.get(name, 0)) for name in ("inverse", "onesided"))
    if shape is None or not (inverse and onesided and given(node, 1)):
        return None
    length = constant_integers(node.inputs[1])
    axis = constant_integers(node.inputs[2]) if given(node, 2) else [len(shape) - 2]
    if length is None or axis is None or not isinstance(shape[axis[0]], int):
        return None
    own, fitting = shape[axis[0]], length[0] // 2 + 1
    if own == fitting:
        return None
    return f"makes {length[0]} real numbers of {own} frequencies, not of {fitting}"


@rule("DFT", supports=all_of(known({1: "length", 2: "axis"}), _frequencies_fit))
def dft(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """The transform of an axis that is cut, or filled up with zeros, to the length L first."""
    (g,) = grads
    assert g is not None
    x = node.inputs[0]
    rank = len(shape_of(x))
    axis = integers(node, 2)[0] % rank if given(node, 2) else rank - 2
    inverse, onesided = (bool(node.attrs.get(name, 0)) for name in ("inverse", "onesided"))
    if given(node, 1):
        (length,) = integers(node, 1)
    else:
        length = 2 * (shape_of(x)[axis] - 1) if inverse and onesided else shape_of(x)[axis]
    spectrum, signal = shape_of(node.outputs[0]), shape_of(x)
    if inverse and onesided:
        transformed = length // 2 + 1
        signal_gradient = _transposed_real_inverse(context, g, length, axis, rank)
    else:
        missing = length - spectrum[axis]
        g = resize_with_zeros(context, g, [0] * rank, _only(axis, missing, rank))
        signal_gradient = _transposed(context, g, length, axis, inverse)
        transformed = length
    cut = [0] * rank
    cut[axis], cut[-1] = signal[axis] - transformed, signal[-1] - 2
    return [resize_with_zeros(context, signal_gradient, [0] * rank, cut)]


@rule(
    "STFT",
    supports=all_of(known({1: "frame step", 3: "frame length"}), no_gradient_for((2,), "window")),
)
def stft(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Frames of the signal times a window, transformed: the transpose of each is added up."""
    (g,) = grads
    assert g is not None
    x, y = node.inputs[0], node.outputs[0]
    samples, total, parts = shape_of(x)
    _, frames, frequencies, _ = shape_of(y)
    (step,) = integers(node, 1)
    if given(node, 3):
        (length,) = integers(node, 3)
    else:
        length = shape_of(node.inputs[2])[0] if given(node, 2) else total
    g = resize_with_zeros(context, g, [0] * 4, [0, 0, length - frequencies, 0])
    framed = _transposed(context, g, length, 2, inverse=False)
    framed = resize_with_zeros(context, framed, [0] * 4, [0, 0, 0, parts - 2])
    if given(node, 2):
        window = context.reshape(context.cast(node.inputs[2], g.dtype), [length, 1])
        framed = context.mul(framed, window)
    places = np.arange(frames)[:, None] * step + np.arange(length)
    rows = context.transpose(context.reshape(framed, [samples, frames * length, parts]), [1, 0, 2])
    summed = context.op(
        "ScatterND",
        zeros(context, [total, samples, parts], g),
        context.constant(places.reshape(-1, 1)),
        rows,
        reduction="add",
    )
    return [context.transpose(summed, [1, 0, 2])]


def _transposed(context: Context, g: Tensor, length: int, axis: int, inverse: bool) -> Tensor:
    """Return ``F̄ᵀ g`` for complex g whose axis has ``length`` entries."""
    turned = context.op(
        "DFT", g, None, context.constant(np.array(axis, np.int64)), inverse=int(not inverse)
    )
    return context.scale(turned, 1 / length if inverse else length)


def _transposed_real_inverse(
    context: Context, g: Tensor, length: int, axis: int, rank: int
) -> Tensor:
    """Return the transpose, ⌊L/2⌋ + 1 pairs, of the inverse transform to L real numbers.

    Each pair but the first, and for even L the last, stands for its conjugate too.
    """
    turned = context.op("DFT", g, None, context.constant(np.array(axis, np.int64)), onesided=1)
    weights = np.full(length // 2 + 1, 2 / length)
    weights[0] = 1 / length
    if length % 2 == 0:
        weights[-1] = 1 / length
    shape = [1] * rank
    shape[axis] = len(weights)
    return context.mul(turned, context.constant(weights.reshape(shape).astype(g.dtype)))


def _only(axis: int, amount: int, rank: int) -> list[int]:
    return [amount if place == axis else 0 for place in range(rank)]
