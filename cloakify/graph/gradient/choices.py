"""Straight through the choice of the largest number, as if a softmax had shared it out.

    Hardmax(x)        OneHot(ArgMax(x))        table[ArgMax(x)]

What is chosen changes in steps; a softmax of x tells which choice is the nearest, and how near. Its
numbers are taken in standard deviations of x along the axis, so that no scale makes it a step.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.constants import constant_numbers
from cloakify.graph.model.imported import is_float
from cloakify.graph.model.shapes import shape_of

_PLACES = {"ArgMax", "ArgMin"}
# What leaves the places of the largest what they are, in their order.
_MOVES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class Choice:
    """Rows that are chosen by the place of the largest number.

    Attributes
    ----------
    places
        The `ArgMax` or `ArgMin`.
    end
        The node that puts out the rows: one-hot ones, or those of a table.
    """

    places: gs.Node
    end: gs.Node

    @property
    def source(self) -> Tensor:
        """What is chosen by."""
        return self.places.inputs[0]


def choices_of(places: gs.Node) -> list[Choice]:
    """Return what an `ArgMax` or `ArgMin` chooses; of another node nothing."""
    if places.op not in _PLACES or not is_float(places.inputs[0]):
        return []
    choices, waiting = [], [places.outputs[0]]
    while waiting:
        tensor = waiting.pop()
        for reader in tensor.outputs:
            if reader.op in _MOVES:
                waiting.append(reader.outputs[0])
            elif _is_end(reader, tensor):
                choices.append(Choice(places, reader))
    return choices


def find_choices(graph: gs.Graph, active: Collection[str]) -> dict[str, Choice]:
    """Return the choices by what depends on the data, by the name of what they put out."""
    nodes = [node for node in graph.nodes if node.inputs and node.inputs[0].name in active]
    return {choice.end.outputs[0].name: choice for node in nodes for choice in choices_of(node)}


def choice_gradient(builder: Builder, choice: Choice, g: Tensor) -> Tensor:
    """Return the gradient of what is chosen by, given that of the rows."""
    x, end = choice.source, choice.end
    rank = len(shape_of(x))
    axis = choice.places.attrs.get("axis", 0) % rank
    count = shape_of(x)[axis]
    if end.op == "OneHot":
        place = end.attrs.get("axis", -1) % len(shape_of(end.outputs[0]))
        others = [each for each in range(len(shape_of(end.outputs[0]))) if each != place]
        rows = builder.transpose(g, [*others, place])
        off, on = constant_numbers(end.inputs[2]) or (0.0, 1.0)
        rows = builder.scale(rows, on - off)
    else:
        assert isinstance(end.inputs[0], gs.Constant)
        table = end.inputs[0].values.reshape(end.inputs[0].shape[0], -1)[:count]
        wide = builder.reshape(g, [math.prod(shape_of(g)) // table.shape[1], table.shape[1]])
        rows = builder.op("MatMul", wide, builder.constant(np.ascontiguousarray(table.T)))
    rest = [each for each in range(rank) if each != axis]
    rows = builder.reshape(rows, [*(shape_of(x)[each] for each in rest), count])
    order = [*rest, axis]
    turned = builder.transpose(rows, [order.index(each) for each in range(rank)])
    shared = shared_out(builder, x, turned, axis, falling=choice.places.op == "ArgMin")
    shared.shape = shape_of(x)
    return shared


def shared_out(
    builder: Builder, x: Tensor, g: Tensor, axis: int, *, falling: bool = False
) -> Tensor:
    """Return the gradient of a softmax of x in its deviations, given that of its shares.

    Parameters
    ----------
    falling
        Whether it is the smallest that has the largest share.
    """
    axes = builder.ints(axis)
    mean = builder.op("ReduceMean", x, axes)
    off = builder.sub(x, mean)
    variance = builder.op("ReduceMean", builder.mul(off, off), axes)
    tiny = builder.scalar(float(np.finfo(x.dtype).tiny), x)
    spread = builder.op("Sqrt", builder.op("Max", variance, tiny))
    spread = builder.neg(spread) if falling else spread
    shares = builder.op("Softmax", builder.div(off, spread), axis=axis)
    total = builder.sum(builder.mul(g, shares), [axis])
    return builder.div(builder.mul(shares, builder.sub(g, total)), spread)


def _is_end(node: gs.Node, places: Tensor) -> bool:
    """Tell whether a node puts out rows that places choose, of what is constant."""
    if node.op == "OneHot":
        return node.inputs[0] is places and isinstance(node.inputs[2], gs.Constant)
    return (
        node.op == "Gather"
        and node.inputs[1] is places
        and isinstance(node.inputs[0], gs.Constant)
        and node.attrs.get("axis", 0) == 0
        and is_float(node.outputs[0])
    )
