"""Every graph, every constant and every name that is read in a model, at any depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto


def iter_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield ``graph`` and every graph in an attribute of its nodes, at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from iter_graphs(attribute.g)
            elif attribute.type == AttributeProto.GRAPHS:
                for inner in attribute.graphs:
                    yield from iter_graphs(inner)


def graphs_of(attribute: AttributeProto) -> Iterator[GraphProto]:
    """Yield the graphs that an attribute holds, not those inside of them."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def names_read(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, those read inside its graphs included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in graphs_of(attribute):
            for inner in graph.node:
                yield from names_read(inner)
            yield from (output.name for output in graph.output)


def iter_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every constant tensor: initializers and tensor attributes, functions included."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of(function.attribute_proto)
        for node in function.node:
            yield from _tensors_of(node.attribute)


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of(node.attribute)


def _tensors_of(attributes: Iterable[AttributeProto]) -> Iterator[TensorProto]:
    """Yield the tensors in attributes, at any depth."""
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for part in (*sparse, *attribute.sparse_tensors):
            yield from (part.values, part.indices)
        for graph in graphs_of(attribute):
            yield from _tensors_of_graph(graph)
