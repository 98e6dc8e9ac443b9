"""Attack steps as part of the gradient graph: one run of the session is one step.

    x, clean, labels, …  ->  the next iterate

so that nothing but small vectors leaves the device between steps. x are the iterates, x₀ the clean
samples, g the gradient, ε the budget in data units, f the model units per data unit (broadcast
along the channels), [low, high] the box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor

CLEAN = "cloakify_clean"
STEP_SIZE = "cloakify_step_size"
EPS = "cloakify_eps"
FACTOR = "cloakify_factor"
LOWER = "cloakify_lower"
UPPER = "cloakify_upper"
NEXT = "cloakify_next"


def add_step(builder: Builder, norm: str, x: Tensor, gradient: Tensor) -> Tensor:
    """Append one step of steepest ascent and its projection; return the next iterate.

    Adds the graph inputs ``cloakify_clean`` (shape of x), ``cloakify_step_size`` and
    ``cloakify_eps`` (scalars, data units), ``cloakify_factor``, ``cloakify_lower`` and
    ``cloakify_upper`` (rank of x, broadcastable to it).

    Projected gradient ascent as in Madry et al., arXiv 1706.06083: the step is
    ``α·sign(g)`` for linf, ``α·g/‖g‖₂`` for l2.
    """
    dtype, shape = x.dtype, list(x.shape)
    clean = _input(builder, CLEAN, dtype, shape)
    alpha = _input(builder, STEP_SIZE, dtype, [])
    eps = _input(builder, EPS, dtype, [])
    # Symbolic sizes: whether there is one value, or one a channel, is up to the caller.
    loose: list[int | str] = [1, *(f"cloakify_size_{axis}" for axis in range(1, len(shape)))]
    factor = _input(builder, FACTOR, dtype, loose)
    lower = _input(builder, LOWER, dtype, loose)
    upper = _input(builder, UPPER, dtype, loose)
    if norm == "linf":
        ascent = builder.mul(builder.op("Sign", gradient), builder.mul(factor, alpha))
        radius = builder.mul(factor, eps)
        moved = builder.add(x, ascent)
        moved = builder.op("Max", moved, builder.sub(clean, radius))
        moved = builder.op("Min", moved, builder.add(clean, radius))
    else:
        axes = list(range(1, len(shape)))
        # In data units the ball is round: ∂loss/∂u = g·f for x = x₀ + f·u.
        ascent = builder.mul(gradient, factor)
        ascent = builder.div(ascent, _length(builder, ascent, axes))
        offset = builder.div(builder.sub(x, clean), factor)
        offset = builder.add(offset, builder.mul(ascent, alpha))
        shrink = builder.div(eps, _length(builder, offset, axes))
        shrink = builder.op("Min", shrink, builder.scalar(1.0, x))
        moved = builder.add(clean, builder.mul(builder.mul(offset, shrink), factor))
    moved = builder.op("Max", moved, lower)
    moved = builder.op("Min", moved, upper)
    moved.shape = shape
    return moved


def _length(builder: Builder, tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """Return ‖·‖₂ over ``axes``, never 0: a zero vector then stays zero when divided by it."""
    tiny = builder.scalar(float(np.finfo(tensor.dtype).tiny) ** 0.5, tensor)
    # Scaled by the largest entry first: squares of gradients of a sure model underflow.
    largest = builder.op("Max", _largest(builder, tensor, axes), tiny)
    scaled = builder.div(tensor, largest)
    return builder.op(
        "Max", builder.mul(largest, builder.op("ReduceL2", scaled, builder.ints(*axes))), tiny
    )


def _largest(builder: Builder, tensor: Tensor, axes: Sequence[int]) -> Tensor:
    return builder.op("ReduceMax", builder.op("Abs", tensor), builder.ints(*axes))


def _input(builder: Builder, name: str, dtype: np.dtype, shape: list[int | str]) -> Tensor:
    variable = gs.Variable(name, dtype, shape)
    builder.graph.inputs.append(variable)
    return variable
