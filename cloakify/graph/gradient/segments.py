"""Stretches of a graph that make functions of one number, element by element.

A quantiser, a dead zone, a hard clip, a thresholded or home-made activation: each takes a tensor to
one of the same shape, an element at a time, by whatever operators; or to one that holds a row of
numbers for each (a code, a row of a table). Only constants come in from elsewhere, and every way
from the tensor to the rest of the graph leads through its end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.layouts import Layout, layout_behind, own_layout
from cloakify.graph.model.imported import is_float
from cloakify.graph.model.shapes import shape_of

# Functions of more operators are looked at no further: nobody writes an activation so.
_MOST = 64

# Steps, or what switches; and what is level far out.
_STEPS = {
    *("ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
    *("Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less"),
    *("LessOrEqual", "Mod", "QuantizeLinear", "Round", "Shrink", "Sign", "ThresholdedRelu"),
    "Where",
}
_SATURATING = {"Atan", "Clip", "Erf", "HardSigmoid", "Max", "Min", "Sigmoid", "Softsign", "Tanh"}
# What goes up and down over and over.
_WAVES = {"Cos", "Sin", "Tan"}
# Added and taken away again this rounds to 2⁻¹² and coarser in float32.
_LARGE = 2.0**12
# One bend is a ReLU; two may make a dead zone.
_BENDS = {"Abs", "LeakyRelu", "PRelu", "Relu"}


@dataclass(frozen=True)
class Segment:
    """A function of one number.

    Attributes
    ----------
    source, target
        What it takes and what it puts out; floats.
    nodes
        Between the two, in order.
    layout
        Where in the target the numbers are that depend on one of the source: of the same shape, or
        a row for each.
    """

    source: Tensor
    target: Tensor
    nodes: tuple[gs.Node, ...]
    layout: Layout

    @property
    def may_hide(self) -> bool:
        """Whether its derivative may mislead: by steps, by levels, by waves, by two bends."""
        kinds = [node.op for node in self.nodes]
        if any(kind in _STEPS | _SATURATING | _WAVES for kind in kinds):
            return True
        if any(map(_rounds, self.nodes)):
            return True
        whole = any(node.op == "Cast" and not is_float(node.outputs[0]) for node in self.nodes)
        return whole or sum(kind in _BENDS for kind in kinds) > 1

    @property
    def is_quantiser(self) -> bool:
        """Whether it rounds as quantised models do by design, mostly too finely to hide a thing."""
        return any(node.op == "QuantizeLinear" for node in self.nodes)


def _rounds(node: gs.Node) -> bool:
    """Tell whether a node adds what is so large that little is left of the digits of a number."""
    shifts = [tensor for tensor in node.inputs if isinstance(tensor, gs.Constant)]
    return node.op in ("Add", "Sub") and any(
        tensor.values.size and np.abs(tensor.values).min() >= _LARGE for tensor in shifts
    )


def find_segments(graph: gs.Graph, active: Collection[str]) -> list[Segment]:
    """Return the segments, which are as short as can be.

    Parameters
    ----------
    graph
        A specialised graph: static shapes, nodes in topological order.
    active
        Names of the tensors that depend on the data; all others count as constants.
    """
    # Of each value that is made of one tensor, element by element: this tensor, and by which node.
    roots: dict[int, Tensor] = {}
    layouts: dict[int, Layout] = {}
    makers: dict[int, tuple[int, gs.Node]] = {}
    ends: dict[int, Tensor] = {}
    for place, node in enumerate(graph.nodes):
        read = [tensor for tensor in node.inputs if tensor.name in active]
        own = {id(root): root for root in (roots.get(id(tensor), tensor) for tensor in read)}
        if len(own) == 1:
            (root,) = own.values()
            layout = _behind(node, root, read, layouts)
            if layout is not None:
                layouts[id(node.outputs[0])] = layout
                roots[id(node.outputs[0])] = root
                makers[id(node.outputs[0])] = place, node
                continue
        ends |= {id(tensor): tensor for tensor in read if id(tensor) in roots}
    ends |= {id(tensor): tensor for tensor in graph.outputs if id(tensor) in roots}
    segments = (segment for end in ends.values() for segment in _cut(end, roots[id(end)], makers))
    return list({id(segment.target): segment for segment in segments}.values())


def _behind(
    node: gs.Node,
    root: Tensor,
    read: Sequence[Tensor],
    layouts: Mapping[int, Layout],
) -> Layout | None:
    """Return the layout of a node's output, of a root that are floats, some for each sample."""
    own = own_layout(root)
    if own is None or len(own) < 2 or not is_float(root):
        return None
    among = {id(tensor) for tensor in read}

    def known(tensor: Tensor) -> Layout | None:
        return layouts.get(id(tensor), own) if id(tensor) in among else None

    return layout_behind(node, known, root)


def _cut(end: Tensor, root: Tensor, makers: dict[int, tuple[int, gs.Node]]) -> Iterator[Segment]:
    """Cut the way from a root to an end wherever all of it leads through one tensor of floats."""
    nodes = _between(end, root, makers)
    # How often the values that there are will still be read.
    readings = Counter(id(tensor) for node in nodes for tensor in node.inputs)
    source, start, waiting = root, 0, {id(root)}
    # A table knows nothing between its rows: it is looked at with the steps that choose them.
    steps = [place for place, node in enumerate(nodes) if node.op in _STEPS | {"Cast"}]
    looked_up = [place for place, node in enumerate(nodes) if node.op in ("Gather", "OneHot")]
    together = range(min(steps, default=0) + 1, max(looked_up, default=-1) + 1)
    for place, node in enumerate(nodes, 1):
        readings.subtract(id(tensor) for tensor in node.inputs)
        waiting = {tensor for tensor in waiting if readings[tensor] > 0}
        (target,) = node.outputs
        is_end = target is end or (_has_one_each(target, source) and place not in together)
        if not waiting and target.dtype == root.dtype and is_end:
            stretch = tuple(nodes[start:place])
            yield Segment(source, target, stretch, _layout_of(source, stretch))
            source, start = target, place
        waiting.add(id(target))


def _has_one_each(target: Tensor, source: Tensor) -> bool:
    """Tell whether a tensor has no more than one number for each of another."""
    return math.prod(shape_of(target)) == math.prod(shape_of(source))


def _layout_of(source: Tensor, nodes: Sequence[gs.Node]) -> Layout:
    """Return the layout of what the last of some nodes puts out, of a tensor on the way to it."""
    own = own_layout(source)
    assert own is not None
    layouts = {id(source): own}
    for node in nodes:
        layout = layout_behind(node, lambda tensor: layouts.get(id(tensor)), source)
        assert layout is not None, node.op
        layouts[id(node.outputs[0])] = layout
    return layouts[id(nodes[-1].outputs[0])]


def _between(end: Tensor, root: Tensor, makers: dict[int, tuple[int, gs.Node]]) -> list[gs.Node]:
    """Return the nodes that make an end of its root, in order; none if they are too many."""
    between: dict[int, tuple[int, gs.Node]] = {}
    waiting = [end]
    while waiting:
        tensor = waiting.pop()
        if tensor is root or id(tensor) not in makers or id(tensor) in between:
            continue
        if len(between) == _MOST:
            return []
        between[id(tensor)] = makers[id(tensor)]
        waiting += between[id(tensor)][1].inputs
    return [node for _, node in sorted(between.values(), key=lambda made: made[0])]
