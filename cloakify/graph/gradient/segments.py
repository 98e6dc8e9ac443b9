"""Stretches of a graph that make a function of one number, element by element.

A quantiser, a dead zone, a hard clip, a thresholded or home-made activation: each takes a tensor to
one of the same shape, an element at a time, by whatever operators. Only constants come in from
elsewhere, and every way from the tensor to the rest of the graph leads through its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.model.imported import is_float

# What puts out for each element a function of that element, of those beside it in other inputs, and
# of constants.
_BY_ELEMENT = {
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift"),
    *("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu"),
    *("Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater"),
    *("GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu"),
    *("Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or"),
    *("PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin"),
    *("Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh"),
    *("ThresholdedRelu", "Where", "Xor"),
}

# Functions of more operators are looked at no further: nobody writes an activation so.
_MOST = 64

# Steps, or what switches; and what is level far out.
_STEPS = {
    *("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Equal", "Floor"),
    *("Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Mod", "Round"),
    *("Shrink", "Sign", "ThresholdedRelu", "Where"),
}
_SATURATING = {"Atan", "Clip", "Erf", "HardSigmoid", "Max", "Min", "Sigmoid", "Softsign", "Tanh"}
# What goes up and down over and over.
_WAVES = {"Cos", "Sin", "Tan"}
# One bend is a ReLU; two may make a dead zone.
_BENDS = {"Abs", "LeakyRelu", "PRelu", "Relu"}


@dataclass(frozen=True)
class Segment:
    """A function of one number.

    Attributes
    ----------
    source, target
        What it takes and what it puts out; floats of one shape.
    nodes
        Between the two, in order.
    """

    source: Tensor
    target: Tensor
    nodes: tuple[gs.Node, ...]

    @property
    def may_hide(self) -> bool:
        """Whether its derivative may mislead: by steps, by levels, by waves, by two bends."""
        kinds = [node.op for node in self.nodes]
        if any(kind in _STEPS | _SATURATING | _WAVES for kind in kinds):
            return True
        whole = any(node.op == "Cast" and not is_float(node.outputs[0]) for node in self.nodes)
        return whole or sum(kind in _BENDS for kind in kinds) > 1


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
    makers: dict[int, tuple[int, gs.Node]] = {}
    ends: dict[int, Tensor] = {}
    for place, node in enumerate(graph.nodes):
        read = [tensor for tensor in node.inputs if tensor.name in active]
        own = {id(root): root for root in (roots.get(id(tensor), tensor) for tensor in read)}
        if len(own) == 1 and _is_by_element(node):
            (root,) = own.values()
            if _alike(root, node.outputs[0]):
                roots[id(node.outputs[0])] = root
                makers[id(node.outputs[0])] = place, node
                continue
        ends |= {id(tensor): tensor for tensor in read if id(tensor) in roots}
    ends |= {id(tensor): tensor for tensor in graph.outputs if id(tensor) in roots}
    found = (segment for end in ends.values() for segment in _cut(end, roots[id(end)], makers))
    return list({id(segment.target): segment for segment in found}.values())


def _is_by_element(node: gs.Node) -> bool:
    return node.op in _BY_ELEMENT and not node.domain


def _alike(source: Tensor, target: Tensor) -> bool:
    """Tell whether two tensors are of one shape, the first one floats, some for each sample."""
    shapes = [list(tensor.shape or []) for tensor in (source, target)]
    return shapes[0] == shapes[1] and len(shapes[0]) > 1 and is_float(source)


def _cut(end: Tensor, root: Tensor, makers: dict[int, tuple[int, gs.Node]]) -> Iterator[Segment]:
    """Cut the way from a root to an end wherever all of it leads through one tensor of floats."""
    nodes = _between(end, root, makers)
    # How often the values that there are will still be read.
    readings = Counter(id(tensor) for node in nodes for tensor in node.inputs)
    source, start, waiting = root, 0, {id(root)}
    for place, node in enumerate(nodes, 1):
        readings.subtract(id(tensor) for tensor in node.inputs)
        waiting = {tensor for tensor in waiting if readings[tensor] > 0}
        (target,) = node.outputs
        if not waiting and target.dtype == root.dtype:
            yield Segment(source, target, tuple(nodes[start:place]))
            source, start = target, place
        waiting.add(id(target))


def _between(end: Tensor, root: Tensor, makers: dict[int, tuple[int, gs.Node]]) -> list[gs.Node]:
    """Return the nodes that make an end of its root, in order; none if they are too many."""
    found: dict[int, tuple[int, gs.Node]] = {}
    waiting = [end]
    while waiting:
        tensor = waiting.pop()
        if tensor is root or id(tensor) not in makers or id(tensor) in found:
            continue
        if len(found) == _MOST:
            return []
        found[id(tensor)] = makers[id(tensor)]
        waiting += found[id(tensor)][1].inputs
    return [node for _, node in sorted(found.values(), key=lambda made: made[0])]
