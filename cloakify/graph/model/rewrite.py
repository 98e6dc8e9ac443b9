"""Rewrite the nodes of a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.names import Names

Shapes = Mapping[str, tuple[int, ...]]


class Writer:
    """Collects the nodes and constants that take the place of one node.

    Parameters
    ----------
    names
        The graph's source of names.
    stem
        What all names made here begin with, behind ``cloakify_``.
    """

    def __init__(self, names: Names, stem: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._names = names
        self._stem = f"cloakify_{stem}"

    def name(self) -> str:
        """Return a name for a value."""
        return self._names.fresh(self._stem)

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
        name = self.name()
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
        names = [self.name() for _ in range(count)]
        self.nodes.append(onnx.helper.make_node("Split", inputs, names, axis=axis, **attributes))
        return names

    def inline(self, graph: GraphProto, mapping: Mapping[str, str]) -> list[str]:
        """Append a subgraph's nodes and constants, and return the names of its outputs.

        What it makes gets names of its own; ``mapping`` gives those that stand for its inputs, and
        names from the graph around it stay.
        """
        inner = dict(mapping)
        for tensor in graph.initializer:
            inner[tensor.name] = self._names.fresh(f"{self._stem}_{tensor.name}")
            self.constants.append(TensorProto())
            self.constants[-1].CopyFrom(tensor)
            self.constants[-1].name = inner[tensor.name]
        for node in graph.node:
            inner.update(
                (name, self._names.fresh(f"{self._stem}_{name}")) for name in node.output if name
            )
            copy = NodeProto()
            copy.CopyFrom(node)
            rename(copy, inner)
            if node.name:
                copy.name = self._names.fresh(f"{self._stem}_{node.name}")
            self.nodes.append(copy)
        return [inner.get(output.name, output.name) for output in graph.output]


def store(model: ModelProto, tensor: TensorProto) -> TensorProto:
    """Append an initializer to a model, in place; return it as it stands there."""
    model.graph.initializer.append(tensor)
    if model.ir_version < 4:
        # Until IR version 4 every initializer had to be an input as well.
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    return model.graph.initializer[-1]


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
    """Make ``outputs`` the only outputs, and drop the nodes that do not lead to them, in place.

    A name that is given twice is one output.
    """
    kept = leading_to(model.graph.node, outputs).nodes
    del model.graph.node[:]
    model.graph.node.extend(kept)
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    values = [known.get(name, ValueInfoProto(name=name)) for name in dict.fromkeys(outputs)]
    del model.graph.output[:]
    model.graph.output.extend(values)
    used: set[str] = {"", *(node.domain for node in model.graph.node)}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
