"""Attack steps as part of the gradient graph: one run of the session is one step.

    x, clean, labels, …  ->  the next iterate

so that nothing but small vectors leaves the device between steps. x are the iterates, x₀ the clean
samples, g the gradient, ε the budget in data units, f the model units per data unit (broadcast
along the channels), [low, high] the box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of

CLEAN = "cloakify_clean"
STEP_SIZE = "cloakify_step_size"
EPS = "cloakify_eps"
FACTOR = "cloakify_factor"
LOWER = "cloakify_lower"
UPPER = "cloakify_upper"
NEXT = "cloakify_next"
MOMENTUM = "cloakify_momentum"
DECAY = "cloakify_decay"
LIVE = "cloakify_live"
HOLD = "cloakify_hold"
FOOLED = "cloakify_fooled"
# What an iteration carries over to the next one is an input, and with this appended an output.
AFTER = "_next"

# Larger entries of a gradient count as infinite: their squares, and sums of many, would be.
LARGEST = 1e30

# Outputs in their order: name and tensor.
Outputs = list[tuple[str, Tensor]]

# (builder, norm, iterates x, loss [N], gradient, which of x fool the model: bool [N]) -> the next
# iterates as NEXT, who is fooled as FOOLED, and what goes into the next iteration as NAME + AFTER.
IterationStep = Callable[[Builder, str, Tensor, Tensor, Tensor, Tensor], Outputs]

ITERATION_STEPS: dict[str, IterationStep] = {}
"""Steps of iterated attacks, by name: each is registered where it is written."""


def iteration_step(name: str) -> Callable[[IterationStep], IterationStep]:
    """Register a function as the step of an iterated attack."""

    def register(function: IterationStep) -> IterationStep:
        assert name not in ITERATION_STEPS, name
        ITERATION_STEPS[name] = function
        return function

    return register


class Ball:
    """The ball around the clean samples, cut by the box of valid inputs.

    Adds the graph inputs ``cloakify_clean`` (shape of x), ``cloakify_eps`` (a scalar, data units),
    ``cloakify_factor``, ``cloakify_lower`` and ``cloakify_upper`` (rank of x, broadcastable to it).
    """

    def __init__(self, builder: Builder, norm: str, x: Tensor) -> None:
        self.builder = builder
        self.norm = norm
        self.shape = shape_of(x)
        self.axes = list(range(1, len(self.shape)))
        self.clean = add_input(builder, CLEAN, x.dtype, self.shape)
        self.eps = add_input(builder, EPS, x.dtype, [])
        # Symbolic sizes: whether there is one value, or one a channel, is up to the caller.
        loose: list[int | str] = [1, *(f"cloakify_size_{axis}" for axis in self.axes)]
        self.factor = add_input(builder, FACTOR, x.dtype, loose)
        self.lower = add_input(builder, LOWER, x.dtype, loose)
        self.upper = add_input(builder, UPPER, x.dtype, loose)

    def climb(self, x: Tensor, gradient: Tensor, size: Tensor) -> Tensor:
        """Return x moved by ``size`` (data units, broadcastable) along the steepest ascent.

        ``sign(g)`` for linf, ``g/‖g‖₂`` for l2, as in Madry et al., arXiv 1706.06083. For l2 g is
        the gradient of what is free to move: what stands at a bound of the box and would leave it
        has no share in the length (D. Bertsekas, SIAM J. Control Optim. 20, 1982). Black pixels of
        infinite slope would otherwise take up whole steps that lead nowhere.
        """
        builder = self.builder
        if self.norm == "linf":
            direction = builder.op("Sign", gradient)
        else:
            gradient = self._free(x, gradient)
            # In data units the ball is round: ∂loss/∂u = g·f for x = x₀ + f·u.
            direction = builder.mul(gradient, self.factor)
            direction = builder.div(direction, _length(builder, direction, self.axes))
        return builder.add(x, builder.mul(direction, builder.mul(self.factor, size)))

    def _free(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return a gradient with 0 where it leads from a bound of the box out of it."""
        builder = self.builder
        zero = builder.scalar(0.0, gradient)
        for beyond, bound, falls in (
            ("Greater", self.lower, "Less"),
            ("Less", self.upper, "Greater"),
        ):
            inside = builder.compare(beyond, x, bound)
            leaves = builder.compare(falls, gradient, zero)
            outward = builder.op(
                "And", builder.op("Not", inside, dtype=np.bool_), leaves, dtype=np.bool_
            )
            gradient = builder.where(outward, zero, gradient)
        return gradient

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest point of ball and box (for l2: of the ball, then of the box).

        The box contains the clean samples, so cutting to it never leads out of the ball.
        """
        builder = self.builder
        if self.norm == "linf":
            radius = builder.mul(self.factor, self.eps)
            x = builder.op("Max", x, builder.sub(self.clean, radius))
            x = builder.op("Min", x, builder.add(self.clean, radius))
        else:
            offset = builder.div(builder.sub(x, self.clean), self.factor)
            shrink = builder.div(self.eps, _length(builder, offset, self.axes))
            shrink = builder.op("Min", shrink, builder.scalar(1.0, x))
            offset = builder.mul(builder.mul(offset, shrink), self.factor)
            x = builder.add(self.clean, offset)
        x = builder.op("Max", x, self.lower)
        x = builder.op("Min", x, self.upper)
        x.shape = self.shape
        return x


def finite(builder: Builder, gradient: Tensor) -> Tensor:
    """Return a gradient with 0 for what is no number; what is infinite is as large as the largest.

    The slope of a root at 0 is infinite, and times 0 no number. A step along either would lead to a
    point that is none, and one along a number that only stands for an infinite one would go nowhere
    else. The largest is that of each sample, which axis 0 counts.
    """
    axes = list(range(1, len(shape_of(gradient))))
    zero = builder.scalar(0.0, gradient)
    lost = builder.op("IsNaN", gradient, dtype=np.bool_)
    size = builder.op("Abs", gradient)
    known = builder.compare("LessOrEqual", size, builder.scalar(LARGEST, gradient))
    largest = builder.op("ReduceMax", builder.where(known, size, zero), builder.ints(*axes))
    # Where none other is known, any number will do.
    some = builder.compare("Greater", largest, zero)
    largest = builder.where(some, largest, builder.scalar(1.0, gradient))
    bounded = builder.op("Max", builder.op("Min", gradient, largest), builder.neg(largest))
    usable = builder.where(lost, zero, bounded)
    usable.shape = shape_of(gradient)
    return usable


def add_step(builder: Builder, norm: str, x: Tensor, gradient: Tensor) -> Outputs:
    """Append one projected step of steepest ascent; return the next iterate.

    Adds the inputs of :class:`Ball` and ``cloakify_step_size`` (a scalar, data units).
    """
    ball = Ball(builder, norm, x)
    size = add_input(builder, STEP_SIZE, x.dtype, [])
    return [(NEXT, ball.project(ball.climb(x, gradient, size)))]


@iteration_step("momentum")
def add_momentum_step(
    builder: Builder, norm: str, x: Tensor, loss: Tensor, gradient: Tensor, fooled: Tensor
) -> Outputs:
    """Append one projected step along an accumulated gradient, for iterates that still go on.

    Dong et al., arXiv 1710.06081, equation 6: ``v ← μ·v + g/‖g‖₁``, then a step along v; μ = 0 is
    projected gradient descent. Adds the inputs of :func:`add_step` and :func:`add_resting`,
    ``cloakify_momentum`` (v, shape of x) and ``cloakify_decay`` (μ, a scalar).
    """
    ball = Ball(builder, norm, x)
    size = add_input(builder, STEP_SIZE, x.dtype, [])
    past = add_input(builder, MOMENTUM, x.dtype, ball.shape)
    decay = add_input(builder, DECAY, x.dtype, [])
    tiny = builder.scalar(float(np.finfo(x.dtype).tiny), x)
    unit = builder.op("Max", builder.op("ReduceL1", gradient, builder.ints(*ball.axes)), tiny)
    velocity = builder.add(builder.mul(past, decay), builder.div(gradient, unit))
    _, resting = add_resting(builder, x, fooled)
    moved = ball.project(ball.climb(x, velocity, size))
    return [
        (NEXT, builder.where(resting, x, moved)),
        (MOMENTUM + AFTER, velocity),
        (FOOLED, fooled),
    ]


def add_resting(builder: Builder, x: Tensor, fooled: Tensor) -> tuple[Tensor, Tensor]:
    """Tell which samples are live, bool [N], and which iterates stay as they are, bool [N, 1, …].

    The latter are those that are not live, and with ``cloakify_hold`` those that fool the model.
    Adds the inputs ``cloakify_live`` (bool [N]) and ``cloakify_hold`` (a bool scalar).
    """
    samples = shape_of(x)[0]
    live = add_input(builder, LIVE, np.bool_, [samples])
    hold = add_input(builder, HOLD, np.bool_, [])
    held = builder.op("And", fooled, hold, dtype=np.bool_)
    resting = builder.op("Or", builder.op("Not", live, dtype=np.bool_), held, dtype=np.bool_)
    return live, over_samples(builder, resting, x)


def over_samples(builder: Builder, vector: Tensor, x: Tensor) -> Tensor:
    """Give a vector [N] the rank of x: [N, 1, …]."""
    return builder.reshape(vector, [shape_of(x)[0], *[1] * (len(shape_of(x)) - 1)])


def add_input(
    builder: Builder, name: str, dtype: np.dtype | type, shape: Sequence[int | str]
) -> Tensor:
    """Append a graph input."""
    variable = gs.Variable(name, dtype, list(shape))
    builder.graph.inputs.append(variable)
    return variable


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
