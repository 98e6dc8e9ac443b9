"""Slopes over widths at which a function of one number can't hide what it does.

The derivative of a quantiser is 0 wherever it exists, that of a dead zone or of a hard clip is 0
where most of the data lie, and an attack that follows it is blind. A secant over a width that spans
the step sees the function as it is for inputs that far apart: a differentiable approximation as
Athalye, Carlini & Wagner, arXiv 1802.00420, section 4.1, ask for it, found by measuring.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.gradient.layouts import laid_out, summed_up
from cloakify.graph.gradient.segments import Segment
from cloakify.graph.model.imported import is_float
from cloakify.graph.model.shapes import shape_of

# Half of the widths of secants, in standard deviations of what a sample puts in.
WIDTHS = (0.3, 1.0, 3.0)
# Those that look for what is near besides: of many numbers on their levels, those next to a step
# are the ones that a small budget moves.
NARROWER = (0.01, 0.03, 0.1)
# And of the one that stands for the derivative.
NARROW = 1e-3
# The same where a quantiser is asked whether it hides anything: steps as fine as those of 8 bits,
# a fortieth of a deviation as a rule, a rule that goes straight through them follows rightly.
NARROW_QUANTISED = 0.1
# The least deviation that counts, of the root mean square: float32 can't tell narrower widths.
LEAST = 1 / 32

# Differences count from so much of the value on: float32 rounds others away, all the more where
# they are those of a narrow width.
RESOLVED, RESOLVED_WIDE = 1e-5, 1e-2

# A derivative that is so many times flatter than the secants hides something, and one that is as
# many times steeper is that of a step just there. One that leads the other way is that of a wave.
FLATTER, STEEPER = 0.1, 10.0


def secant_gradient(builder: Builder, segment: Segment, g: Tensor, *, near: bool) -> Tensor:
    """Return the gradient of a segment's source, given that of its target.

    By the derivative where it tells as much as the secants do, else by the mean of these.

    Parameters
    ----------
    near
        Whether, where it is level, there are narrower ones besides, and each counts by the inverse
        of its width: steps out of a small budget's reach hardly do then. Elsewhere they would
        follow a wave.
    """
    spread = _spread(builder, segment.source)
    secants = [_slope(builder, segment, builder.scale(spread, width)) for width in WIDTHS]
    mean = builder.scale(builder.op("Sum", *secants), 1 / len(WIDTHS))
    narrow = builder.scale(spread, NARROW)
    derivative, zero = _slope(builder, segment, narrow), builder.scalar(0.0, segment.source)
    size, broad = builder.op("Abs", derivative), builder.op("Abs", mean)
    moved = builder.mul(size, _at_target(builder, segment, builder.scale(narrow, 2.0)))
    telling = _all(
        builder,
        builder.compare("GreaterOrEqual", size, builder.scale(broad, FLATTER)),
        builder.compare("LessOrEqual", size, builder.scale(broad, STEEPER)),
        # A gentle dip leads the other way than what is far off, a wave than what is next to it.
        builder.compare("GreaterOrEqual", builder.mul(derivative, secants[0]), zero),
        builder.compare("Greater", moved, _least(builder, segment.target, RESOLVED)),
    )
    if near:
        level = builder.compare("Less", size, builder.scale(broad, FLATTER))
        mean = builder.where(level, _closer(builder, segment, spread, secants), mean)
    through = builder.mul(g, builder.where(telling, derivative, mean))
    return summed_up(builder, through, segment.source, segment.layout)


def _closer(
    builder: Builder, segment: Segment, spread: Tensor, secants: Sequence[Tensor]
) -> Tensor:
    """Return the mean of the secants of all widths, by the inverse of these."""
    narrower = [_slope(builder, segment, builder.scale(spread, width)) for width in NARROWER]
    widths = [*NARROWER, *WIDTHS]
    whole = sum(1 / width for width in widths)
    weighed = [
        builder.scale(secant, 1 / (width * whole))
        for width, secant in zip(widths, [*narrower, *secants], strict=True)
    ]
    return builder.op("Sum", *weighed)


def hidden_share(builder: Builder, segment: Segment) -> Tensor:
    """Return for which share of the numbers the derivative hides what a segment does: [1].

    That is where it is 0 next to the secants of one deviation to both sides, and these do not
    contradict each other as they do around a minimum. Where it is next to that of one side only, as
    below a ReLU's bend, it counts only as far as there are as many on the level of the other side:
    a ReLU has one level, a hard clip two. Where the secants of both sides agree, a derivative that
    is far steeper, or leads the other way, tells of a wave or a step alone and counts, too. So does
    one that is no number.
    """
    x, y = segment.source, segment.target
    spread = _spread(builder, x)
    above = builder.sub(
        _applied(builder, segment, builder.op("Add", x, spread, shape=shape_of(x))), y
    )
    below = builder.sub(
        y, _applied(builder, segment, builder.op("Sub", x, spread, shape=shape_of(x)))
    )
    own = _at_target(builder, segment, spread)
    right, left = (builder.op("Abs", builder.div(rise, own)) for rise in (above, below))
    least = builder.scale(builder.op("Max", right, left), FLATTER)
    narrow = NARROW_QUANTISED if segment.is_quantiser else NARROW
    derivative = _slope(builder, segment, builder.scale(spread, narrow))
    flat, zero = builder.op("Abs", derivative), builder.scalar(0.0, x)
    moved = builder.op("Max", builder.op("Abs", above), builder.op("Abs", below))
    felt = builder.compare("Greater", moved, _least(builder, y, RESOLVED_WIDE))
    hidden = _all(builder, builder.compare("Less", flat, least), felt)
    one_way = builder.compare("Greater", builder.mul(above, below), zero)
    most = builder.scale(builder.op("Max", right, left), STEEPER)
    astray = builder.op(
        "Or",
        builder.compare("Greater", flat, most),
        builder.compare("Less", builder.mul(derivative, above), zero),
        dtype=np.bool_,
    )
    sides = [builder.compare("GreaterOrEqual", side, least) for side in (right, left)]
    levels = [builder.op("Not", side, dtype=np.bool_) for side in sides]
    both, misled, only_right, only_left = (
        _share(builder, x, _all(builder, *flags))
        for flags in (
            [hidden, *sides, one_way],
            [felt, *sides, one_way, astray],
            [hidden, sides[0], levels[1]],
            [hidden, sides[1], levels[0]],
        )
    )
    # None is both flat and steep; of those that lead the other way some are flat as well.
    between = builder.op("Max", both, misled)
    between = builder.add(between, builder.op("Min", only_right, only_left))
    return builder.op("Max", between, _lost_share(builder, segment))


def _lost_share(builder: Builder, segment: Segment) -> Tensor:
    """Return for which share of the numbers a segment puts out one, and has none on the way: [1].

    What is not chosen may be the root of a negative number, whose derivative is none, nor is 0
    times it, so that none of the chosen one is left.
    """
    inner = [
        node.outputs[0]
        for node in segment.nodes[:-1]
        if is_float(node.outputs[0])
        and isinstance(node.outputs[0].dtype, np.dtype | type)
        # Rows that a number was spread out to and taken from again are looked at no closer.
        and node.outputs[0].shape == segment.target.shape
    ]
    known = [_is_number(builder, value) for value in inner]
    if not known:
        return builder.constant(np.zeros(1, segment.source.dtype))
    broken = builder.op("Not", _all(builder, *known), dtype=np.bool_)
    lost = _all(builder, broken, _is_number(builder, segment.target))
    return _share(builder, segment.source, lost)


def _is_number(builder: Builder, value: Tensor) -> Tensor:
    """Tell of which values there is a finite number; of no number nothing is true."""
    large = builder.scalar(float(np.finfo(value.dtype).max), value)
    return builder.compare("LessOrEqual", builder.op("Abs", value), large)


def _all(builder: Builder, first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = builder.op("And", first, other, dtype=np.bool_)
    return first


def _least(builder: Builder, y: Tensor, part: float) -> Tensor:
    """Return a part of the values' size, below which a difference is rounding."""
    return builder.scale(builder.op("Abs", y), part)


def _share(builder: Builder, x: Tensor, flags: Tensor) -> Tensor:
    """Return the share of the numbers for which a flag holds: [1]."""
    flat = builder.reshape(builder.cast(flags, x.dtype), [-1])
    return builder.op("ReduceMean", flat, builder.ints(0))


def _spread(builder: Builder, x: Tensor) -> Tensor:
    """Return the standard deviation of a sample's numbers, to be broadcast.

    Of images and the like that is of all; where the axes may be time, samples and features in any
    order, of the features.
    """
    axes = builder.ints(*_spread_axes(x))
    mean = builder.op("ReduceMean", x, axes)
    squares = builder.op("ReduceMean", builder.mul(x, x), axes)
    variance = builder.sub(squares, builder.mul(mean, mean))
    tiny = builder.scalar(float(np.finfo(x.dtype).tiny), x)
    least = builder.op("Max", builder.scale(squares, LEAST**2), tiny)
    return builder.op("Sqrt", builder.op("Max", variance, least))


def _spread_axes(x: Tensor) -> list[int]:
    shape = shape_of(x)
    one_by_one = len(shape) > 3 or shape[-1] == 1
    return [*range(1, len(shape))] if one_by_one else [len(shape) - 1]


def _at_target(builder: Builder, segment: Segment, spread: Tensor) -> Tensor:
    """Return a width for each number of a segment's source as one for each of its target."""
    axes, sizes = _spread_axes(segment.source), shape_of(segment.source)
    shape = [1 if axis in axes else size for axis, size in enumerate(sizes)]
    return laid_out(builder, spread, shape, segment.layout)


def _slope(builder: Builder, segment: Segment, width: Tensor) -> Tensor:
    """Return the slope of the secant from one width below to one above."""
    x = segment.source
    above, below = (
        _applied(builder, segment, builder.op(op_type, x, width, shape=shape_of(x)))
        for op_type in ("Add", "Sub")
    )
    both = _at_target(builder, segment, builder.scale(width, 2.0))
    return builder.div(builder.sub(above, below), both)


def _applied(builder: Builder, segment: Segment, x: Tensor) -> Tensor:
    """Append what a segment does once more, with another source."""
    made = {segment.source.name: x}
    for node in segment.nodes:
        (target,) = node.outputs
        read = [made.get(tensor.name, tensor) if tensor.name else None for tensor in node.inputs]
        inputs = _within_table(builder, node, read)
        made[target.name] = builder.op(
            node.op, *inputs, shape=shape_of(target), dtype=target.dtype, **node.attrs
        )
    return made[segment.target.name]


def _within_table(
    builder: Builder, node: gs.Node, inputs: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    """Return a node's inputs with numbers of rows that its table has: the ends go on beyond it."""
    if node.op == "Gather":
        rows, chosen = shape_of(node.inputs[0])[0], 1
    elif node.op == "OneHot" and isinstance(node.inputs[1], gs.Constant):
        rows, chosen = int(node.inputs[1].values.reshape(-1)[0]), 0
    else:
        return inputs
    given = inputs[chosen]
    assert given is not None
    shape = shape_of(node.inputs[chosen])
    least = builder.op("Max", given, builder.scalar(0, given), shape=shape)
    within = builder.op("Min", least, builder.scalar(rows - 1, given), shape=shape)
    return [*inputs[:chosen], within, *inputs[chosen + 1 :]]
