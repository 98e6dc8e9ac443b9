"""Every value of a graph is made once, and before it is read: as the standard has it.

Whatever follows values through a graph relies on that: in a circle it would never come to an end.
ONNX Runtime takes nodes in any order that is no circle, and some tools write such files (its own
converter to 16-bit floats does).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, MutableSequence

from onnx import GraphProto, ModelProto, NodeProto

from cloakify.errors import ModelError
from cloakify.onnxfile.walk import graphs_of, iter_graphs, names_read

# The names known in a graph, and in each of those around it.
Scopes = tuple[set[str], ...]


def put_in_order(model: ModelProto) -> bool:
    """Put nodes behind those that make what they read, in place; else they stay as they stand.

    Returns
    -------
    Whether any had to be moved.

    Raises
    ------
    ModelError
        A value is made twice, or by nothing but itself.
    """
    if disorder(model) is None:
        return False
    # Those inside first, which go along with their nodes.
    for graph in reversed([*iter_graphs(model.graph)]):
        _sort(graph.node)
    for function in model.functions:
        _sort(function.node)
    problem = disorder(model)
    if problem is not None:
        raise ModelError(f"{problem}; ONNX wants each value made once, before it is read")
    return True


def _sort(nodes: MutableSequence[NodeProto]) -> None:
    """Sort nodes topologically, of those that may come next always the first (Kahn's algorithm)."""
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    readers: dict[int, list[int]] = defaultdict(list)
    missing = [0] * len(nodes)
    for place, node in enumerate(nodes):
        for maker in {makers[name] for name in names_read(node) if name in makers}:
            readers[maker].append(place)
            missing[place] += 1
    waiting = [place for place, count in enumerate(missing) if not count]
    order: list[int] = []
    while waiting:
        place = heapq.heappop(waiting)
        order.append(place)
        for reader in readers[place]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(waiting, reader)
    # In a circle none comes first: it stays where it is, and is found there.
    order += sorted({*range(len(nodes))} - {*order})
    ordered = [NodeProto.FromString(nodes[place].SerializeToString()) for place in order]
    del nodes[:]
    nodes.extend(ordered)


def disorder(model: ModelProto) -> str | None:
    """Say what is wrong with the order of a model's nodes; ``None`` where nothing is.

    Graphs inside of nodes and local functions are looked at as well.
    """
    fault = _in_graph(model.graph, ())
    for function in model.functions:
        fault = fault or _in_nodes(function.node, (set(function.input),))
    return fault


def _in_graph(graph: GraphProto, around: Scopes) -> str | None:
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    return _in_nodes(graph.node, (known, *around))


def _in_nodes(nodes: Iterable[NodeProto], scopes: Scopes) -> str | None:
    """Look at a graph's nodes; the first of the scopes, its own, grows by what they make."""
    own = scopes[0]
    for node in nodes:
        called = f"{node.op_type} {node.name!r}" if node.name else node.op_type
        for name in node.input:
            if name and not any(name in known for known in scopes):
                return f"{called} reads {name!r}, which nothing before it makes"
        for attribute in node.attribute:
            for graph in graphs_of(attribute):
                fault = _in_graph(graph, scopes)
                if fault:
                    return fault
        for name in filter(None, node.output):
            if name in own:
                return f"{called} makes {name!r}, which there is already"
            own.add(name)
    return None
