"""What values are computed from, and what they lead to.

Every question of that kind is one pass over the nodes in the order of computation, which is the
order they stand in (:mod:`cloakify.onnxfile.order` holds files to it). Values go by their names,
which are unique in a graph, so that messages and working graphs are walked alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import onnx_graphsurgeon as gs
from onnx import NodeProto

from cloakify.onnxfile.walk import names_read

Node = TypeVar("Node", NodeProto, gs.Node)

SIZES = ("Shape", "Size")
"""Operators that read of a value its size alone."""


@dataclass(frozen=True)
class Flow(Generic[Node]):
    """A part of a graph.

    Attributes
    ----------
    nodes
        In the order of computation.
    values
        The names of what was asked for, and of all that it needs or leads to.
    """

    nodes: list[Node]
    values: set[str]


def leading_to(
    nodes: Sequence[Node],
    values: Iterable[str],
    *,
    given: Collection[str] = (),
    passes: Callable[[Node], bool] | None = None,
) -> Flow[Node]:
    """Return the nodes that some values are computed by, and every value that these read.

    Parameters
    ----------
    nodes
        In the order of computation.
    values
        Names.
    given
        Values that are there already: what makes them is not asked for.
    passes
        Tells of a node whether it counts; by default each does.
    """
    needed = set(values)
    leading: list[Node] = []
    for node in reversed(nodes):
        if any(name in needed and name not in given for name in values_made(node)) and (
            passes is None or passes(node)
        ):
            leading.append(node)
            needed.update(values_read(node))
    return Flow(leading[::-1], needed)


def reached_from(
    nodes: Sequence[Node],
    values: Iterable[str],
    *,
    passes: Callable[[Node], bool] | None = None,
) -> Flow[Node]:
    """Return the nodes that some values lead to, and every value that these make.

    See :func:`leading_to`.
    """
    reached = set(values)
    passed: list[Node] = []
    for node in nodes:
        if any(name in reached for name in values_read(node)) and (passes is None or passes(node)):
            passed.append(node)
            reached.update(values_made(node))
    return Flow(passed, reached)


def between(nodes: Sequence[Node], source: str, target: str) -> list[Node]:
    """Return the nodes on any way from one value to another."""
    return leading_to(reached_from(nodes, [source]).nodes, [target]).nodes


def values_read(node: NodeProto | gs.Node) -> Iterator[str]:
    """Yield the names that a node reads, those read inside its subgraphs included."""
    if isinstance(node, gs.Node):
        yield from (tensor.name for tensor in node.inputs if not tensor.is_empty())
        for graph in node.attrs.values():
            if isinstance(graph, gs.Graph):
                for inner in graph.nodes:
                    yield from values_read(inner)
                yield from (tensor.name for tensor in graph.outputs)
    else:
        yield from names_read(node)


def values_made(node: NodeProto | gs.Node) -> Iterator[str]:
    """Yield the names of what a node puts out."""
    if isinstance(node, gs.Node):
        yield from (tensor.name for tensor in node.outputs if not tensor.is_empty())
    else:
        yield from (name for name in node.output if name)
