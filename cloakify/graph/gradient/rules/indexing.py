"""Operators that select elements by position."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.gradient.rules.static import (
    integers,
    resize_with_zeros,
    values,
    zeros,
)
from cloakify.graph.gradient.support import known
from cloakify.graph.model.constants import given
from cloakify.graph.model.shapes import shape_of


@rule("Slice", supports=known({1: "starts", 2: "ends", 3: "axes", 4: "steps"}))
def slice_(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x[start:end:step]``: ``∂x`` is g, spread by the steps, in zeros.

    A negative step is the positive one read backwards.
    """
    (g,) = grads
    assert g is not None
    shape, taken = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    starts, ends = integers(node, 1), integers(node, 2)
    axes = integers(node, 3) if given(node, 3) else list(range(len(starts)))
    steps = integers(node, 4) if given(node, 4) else [1] * len(starts)
    before, after = [0] * len(shape), [0] * len(shape)
    positions = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= len(shape)
        positions[axis] = (range(shape[axis])[start:end:step], step)
    if 0 in taken:
        return [zeros(context, shape, g)]
    backwards = [axis for axis, (_, step) in positions.items() if step < 0]
    if backwards:
        count = len(backwards)
        g = context.op(
            "Slice",
            g,
            context.ints(*[-1] * count),
            context.ints(*[np.iinfo(np.int64).min + 1] * count),
            context.ints(*backwards),
            context.ints(*[-1] * count),
        )
    spread = [abs(positions[axis][1]) if axis in positions else 1 for axis in range(len(shape))]
    spread = [step if size > 1 else 1 for step, size in zip(spread, taken, strict=True)]
    g = interleave_zeros(context, g, taken, spread)
    for axis, (places, _) in positions.items():
        low = min(places)
        before[axis] = low
        after[axis] = shape[axis] - low - taken[axis] * spread[axis]
    return [resize_with_zeros(context, g, before, after)]


def interleave_zeros(context: Context, g: Tensor, shape: list[int], steps: list[int]) -> Tensor:
    """Put ``step − 1`` zeros after every element along each axis."""
    if all(step == 1 for step in steps):
        return g
    apart = [size for pair in zip(shape, [1] * len(shape), strict=True) for size in pair]
    room = [size for step in steps for size in (0, step - 1)]
    wide = context.op("Pad", context.reshape(g, apart), context.ints(*[0] * len(room), *room))
    return context.reshape(wide, [n * step for n, step in zip(shape, steps, strict=True)])


@rule("Gather")
def gather(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` taken at some positions of an axis: g is added at those positions of zeros."""
    (g,) = grads
    assert g is not None
    x, indices = node.inputs
    axis = node.attrs.get("axis", 0) % len(shape_of(x))
    size, count = shape_of(x)[axis], math.prod(shape_of(indices))
    lead, tail = list(shape_of(x)[:axis]), list(shape_of(x)[axis + 1 :])
    g = context.reshape(g, [*lead, count, *tail])
    if isinstance(indices, gs.Constant):
        places = np.where(indices.values < 0, indices.values + size, indices.values).ravel()
        if count and np.array_equal(places, np.arange(places[0], places[0] + count)):
            before, after = [0] * len(shape_of(x)), [0] * len(shape_of(x))
            before[axis], after[axis] = int(places[0]), size - count - int(places[0])
            return [resize_with_zeros(context, g, before, after)]
        if len(set(places.tolist())) == count == size:
            return [context.op("Gather", g, context.ints(*np.argsort(places)), axis=axis)]
    perm = [axis, *(place for place in range(len(shape_of(x))) if place != axis)]
    rows = context.reshape(context.cast(indices, np.int64), [count, 1])
    summed = context.op(
        "ScatterND",
        zeros(context, [size, *lead, *tail], g),
        rows,
        context.transpose(g, perm),
        reduction="add",
    )
    return [context.transpose(summed, np.argsort(perm).tolist())]


@rule("GatherElements")
def gather_elements(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y[…i…] = x[…index[…i…]…]``: g is added at the indices."""
    (g,) = grads
    assert g is not None
    x, indices = node.inputs
    axis = node.attrs.get("axis", 0)
    return [
        context.op(
            "ScatterElements",
            zeros(context, shape_of(x), g),
            indices,
            g,
            axis=axis,
            reduction="add",
        )
    ]


@rule("GatherND")
def gather_nd(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y[i] = x[index[i]]``, the index a tuple: g is added at the indices.

    Batch axes become further entries of the tuples.
    """
    (g,) = grads
    assert g is not None
    x, indices = node.inputs
    batch = node.attrs.get("batch_dims", 0)
    tuples = context.cast(indices, np.int64)
    if batch:
        lead = list(shape_of(indices)[:-1])
        grid = np.indices(lead, dtype=np.int64)[:batch]
        tuples = context.op("Concat", context.constant(np.moveaxis(grid, 0, -1)), tuples, axis=-1)
    return [context.op("ScatterND", zeros(context, shape_of(x), g), tuples, g, reduction="add")]


@rule("TopK")
def top_k(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """The largest (or smallest) along an axis: g goes back to where they were."""
    g = grads[0]
    assert g is not None
    x, indices = node.inputs[0], node.outputs[1]
    axis = node.attrs.get("axis", -1)
    return [context.op("ScatterElements", zeros(context, shape_of(x), g), indices, g, axis=axis)]


@rule("Compress", supports=known({1: "condition"}))
def compress(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` where a constant condition holds: g goes back to those positions."""
    (g,) = grads
    assert g is not None
    x = node.inputs[0]
    kept = np.flatnonzero(values(node, 1))
    axis = node.attrs.get("axis")
    shape = shape_of(x) if axis is not None else [math.prod(shape_of(x))]
    axis = 0 if axis is None else axis % len(shape)
    perm = [axis, *(place for place in range(len(shape)) if place != axis)]
    spread = context.op(
        "ScatterND",
        zeros(context, [shape[place] for place in perm], g),
        context.constant(kept[:, None].astype(np.int64)),
        context.transpose(g, perm),
    )
    return [context.reshape(context.transpose(spread, np.argsort(perm).tolist()), shape_of(x))]


@rule("Trilu")
def trilu(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """One triangle, zeros elsewhere: ``∂x`` is the same triangle of g."""
    (g,) = grads
    assert g is not None
    diagonal = [node.inputs[1]] if given(node, 1) else []
    return [context.op("Trilu", g, *diagonal, upper=node.attrs.get("upper", 1))]


@rule("ReverseSequence")
def reverse_sequence(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """Reversing the first elements of each sequence undoes itself: ``∂x`` reverses g."""
    (g,) = grads
    assert g is not None
    attributes = {name: node.attrs.get(name, axis) for name, axis in _REVERSED_AXES.items()}
    return [context.op("ReverseSequence", g, node.inputs[1], **attributes)]


_REVERSED_AXES = {"batch_axis": 1, "time_axis": 0}


@rule("Col2Im", supports=known({1: "sizes", 2: "sizes"}))
def col2im(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` adds columns up to an image: ``∂x`` reads g back, block position by block position."""
    (g,) = grads
    assert g is not None
    image, block = integers(node, 1), integers(node, 2)
    rank = len(image)
    strides = node.attrs.get("strides") or [1] * rank
    dilations = node.attrs.get("dilations") or [1] * rank
    pads = node.attrs.get("pads") or [0] * 2 * rank
    g = resize_with_zeros(context, g, [0, 0, *pads[:rank]], [0, 0, *pads[rank:]])
    padded = [n + a + b for n, a, b in zip(image, pads[:rank], pads[rank:], strict=True)]
    places = np.zeros([1] * 2 * rank, np.int64)
    for axis in range(rank):
        reach = dilations[axis] * (block[axis] - 1) + 1
        columns = np.arange((padded[axis] - reach) // strides[axis] + 1) * strides[axis]
        taps = np.arange(block[axis]) * dilations[axis]
        shape = [1] * 2 * rank
        shape[axis], shape[rank + axis] = len(taps), len(columns)
        places = places * padded[axis] + np.add.outer(taps, columns).reshape(shape)
    samples, channels = shape_of(node.outputs[0])[:2]
    flat = context.reshape(g, [samples, channels, math.prod(padded)])
    taken = context.op("Gather", flat, context.constant(places.reshape(-1)), axis=2)
    return [context.reshape(taken, shape_of(node.inputs[0]))]
