"""Every value of a graph is made once, and before it is read: as the standard has it.

Whatever follows values through a graph relies on that: in a circle it would never come to an end.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto

# The names known in a graph, and in each of those around it.
Scopes = tuple[set[str], ...]


def disorder(model: ModelProto) -> str | None:
    """Say what is wrong with the order of a model's nodes; ``None`` where nothing is.

    Graphs inside of nodes and local functions are looked at as well.
    """
    found = _in_graph(model.graph, ())
    for function in model.functions:
        found = found or _in_nodes(function.node, (set(function.input),))
    return found


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
            for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                found = _in_graph(graph, scopes)
                if found:
                    return found
        for name in filter(None, node.output):
            if name in own:
                return f"{called} makes {name!r}, which there is already"
            own.add(name)
    return None
