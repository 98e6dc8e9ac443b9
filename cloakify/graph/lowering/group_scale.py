"""GroupNormalization as opset 21 has it: one scale a channel.

Opsets 18 to 20 gave it one a group, and onnx's version converter leaves that as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from cloakify.onnxfile.walk import iter_graphs


def spread_group_scales(model: ModelProto) -> None:
    """Repeat each group's scale and bias for its channels, in a model of opset 18 to 20."""
    for graph in iter_graphs(model.graph):
        nodes: list[NodeProto] = []
        for place, node in enumerate(graph.node):
            if node.op_type == "GroupNormalization" and node.domain in ("", "ai.onnx"):
                nodes.extend(_repeats(node, f"cloakify_group_scale_{place}"))
            nodes.append(node)
        if len(nodes) > len(graph.node):
            del graph.node[:]
            graph.node.extend(nodes)


def _repeats(node: NodeProto, stem: str) -> list[NodeProto]:
    groups = next(attribute.i for attribute in node.attribute if attribute.name == "num_groups")
    constants = {"groups": [groups], "column": [-1, 1], "flat": [-1]}
    made = [
        onnx.helper.make_node(
            "Constant",
            [],
            [f"{stem}_{name}"],
            value=onnx.numpy_helper.from_array(np.array(values, np.int64)),
        )
        for name, values in constants.items()
    ]

    def add(op_type: str, *inputs: str, output: str, **attributes: Any) -> str:
        name = f"{stem}_{output}"
        made.append(onnx.helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    channels = add("Shape", node.input[0], output="channels", start=1, end=2)
    each = add("Div", channels, f"{stem}_groups", output="each")
    shape = add("Concat", f"{stem}_groups", each, output="shape", axis=0)
    for place, kind in ((1, "scale"), (2, "bias")):
        column = add("Reshape", node.input[place], f"{stem}_column", output=f"{kind}_column")
        rows = add("Expand", column, shape, output=f"{kind}_rows")
        node.input[place] = add("Reshape", rows, f"{stem}_flat", output=kind)
    return made
