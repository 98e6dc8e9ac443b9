"""Rewrite the nodes of a message: new names, renamed copies, and what leads where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from cloakify.graph.model.dataflow import leading_to
from cloakify.onnxfile.walk import iter_graphs

Shapes = Mapping[str, tuple[int, ...]]


class Writer:
    """Collects the nodes and constants that take the place of one node."""

    def __init__(self, stem: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._stem = f"cloakify_{stem}"

    def name(self) -> str:
        return f"{self._stem}_{len(self.nodes)}_{len(self.constants)}"

    def op(
        self,
        op_type: str,
        *inputs: str,
        output: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node with one output, and return that output's name."""
        output = output or self.name()
        self.nodes.append(
            onnx.helper.make_node(op_type, list(inputs), [output], domain=domain, **attributes)
        )
        return output

    def constant(self, values: np.ndarray) -> str:
        name = self.name() + "_c"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def split(self, tensor: str, parts: int | Sequence[int], axis: int) -> list[str]:
        """Append a `Split` into some equal parts, or into parts of the given sizes."""
        attributes: dict[str, Any] = {}
        if isinstance(parts, int):
            count, inputs, attributes = parts, [tensor], {"num_outputs": parts}
        else:
            count, inputs = len(parts), [tensor, self.ints(*parts)]
        stem = self.name()
        names = [f"{stem}_{place}" for place in range(count)]
        self.nodes.append(onnx.helper.make_node("Split", inputs, names, axis=axis, **attributes))
        return names


def replace_nodes(graph: GraphProto, replacements: Mapping[int, Sequence[NodeProto]]) -> None:
    """Put other nodes in the place of some, by position."""
    nodes: list[NodeProto] = []
    for place, node in enumerate(graph.node):
        nodes.extend(replacements.get(place, [node]))
    del graph.node[:]
    graph.node.extend(nodes)


def given(node: NodeProto, place: int) -> str:
    """Return the name of an input that may be left out, or ""."""
    return node.input[place] if len(node.input) > place else ""


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute's value; text as `str`."""
    for candidate in node.attribute:
        if candidate.name == name:
            value = onnx.helper.get_attribute_value(candidate)
            if isinstance(value, bytes):
                return value.decode()
            if isinstance(value, list) and value and isinstance(value[0], bytes):
                return [part.decode() for part in value]
            return value
    return default


def renamed(graph: GraphProto, prefix: str, mapping: Mapping[str, str]) -> Iterator[NodeProto]:
    """Yield copies of a subgraph's nodes whose inner names start with ``prefix``.

    ``mapping`` gives the names that stand for the subgraph's inputs; names from the graph around it
    stay.
    """
    inner = dict(mapping)
    for node in graph.node:
        inner.update((name, prefix + name) for name in node.output if name and name not in inner)
    inner.update((tensor.name, prefix + tensor.name) for tensor in graph.initializer)
    for node in graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        rename(copy, inner)
        copy.name = prefix + node.name if node.name else ""
        yield copy


def rename(node: NodeProto, mapping: Mapping[str, str]) -> None:
    """Give what a node reads and yields other names, in place, its subgraphs included."""
    node.input[:] = [mapping.get(name, name) for name in node.input]
    node.output[:] = [mapping.get(name, name) for name in node.output]
    for entry in node.attribute:
        if entry.HasField("g"):
            # Names made in here can't be those of the graphs around it.
            for inner in entry.g.node:
                rename(inner, mapping)
            for output in entry.g.output:
                output.name = mapping.get(output.name, output.name)


def cut(model: ModelProto, outputs: Sequence[str]) -> None:
    """Make ``outputs`` the only outputs, and drop the nodes that do not lead to them, in place."""
    kept = leading_to(model.graph.node, outputs).nodes
    del model.graph.node[:]
    model.graph.node.extend(kept)
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    values = [known.get(name, ValueInfoProto(name=name)) for name in outputs]
    del model.graph.output[:]
    model.graph.output.extend(values)
    used: set[str] = {"", *(node.domain for node in model.graph.node)}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def names_of(model: ModelProto) -> set[str]:
    """Return every name that a model's graphs use, of values, nodes and sizes."""
    taken: set[str] = set()
    for graph in iter_graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            taken.add(value.name)
            taken.update(dim.dim_param for dim in value.type.tensor_type.shape.dim)
        taken.update(tensor.name for tensor in graph.initializer)
        taken.update(tensor.values.name for tensor in graph.sparse_initializer)
        for node in graph.node:
            taken.update((node.name, *node.input, *node.output))
    return taken


def fresh_name(wanted: str, taken: set[str]) -> str:
    """Return ``wanted``, or with a number behind it where it is taken; it is taken then."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name
