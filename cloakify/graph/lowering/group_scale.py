"""GroupNormalization as opset 21 has it: one scale a channel.

Opsets 18 to 20 gave it one a group, and onnx's version converter leaves that as it is.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import Writer, attribute, replace_nodes
from cloakify.onnxfile.domains import is_standard
from cloakify.onnxfile.walk import iter_graphs


def spread_group_scales(model: ModelProto) -> None:
    """Repeat each group's scale and bias for its channels, in a model of opset 18 to 20."""
    names = names_in(model)
    for graph in iter_graphs(model.graph):
        replacements: dict[int, list[NodeProto]] = {}
        for place, node in enumerate(graph.node):
            if node.op_type == "GroupNormalization" and is_standard(node):
                writer = Writer(names, "group_scale")
                _repeat(writer, node)
                replacements[place] = [*writer.nodes, node]
                graph.initializer.extend(writer.constants)
        replace_nodes(graph, replacements)


def _repeat(writer: Writer, node: NodeProto) -> None:
    groups = writer.ints(attribute(node, "num_groups"))
    channels = writer.op("Shape", node.input[0], start=1, end=2)
    shape = writer.op("Concat", groups, writer.op("Div", channels, groups), axis=0)
    for place in (1, 2):
        column = writer.op("Reshape", node.input[place], writer.ints(-1, 1))
        rows = writer.op("Expand", column, shape)
        node.input[place] = writer.op("Reshape", rows, writer.ints(-1))
