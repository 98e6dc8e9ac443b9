"""Replace function operators by their bodies.

The ONNX standard defines some operators (Attention, RotaryEmbedding, …) by a graph of simpler ones.
A gradient rule for these is then enough. Where an operator's body depends on its attributes and
the types of its inputs, onnx builds the body for the node at hand.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import onnx
import onnx.inliner
from onnx import ModelProto, NodeProto

from cloakify.boundary import boundary
from cloakify.graph.lowering.state import Keep, Lowering
from cloakify.graph.model.imported import infer_shapes
from cloakify.onnxfile import values_of
from cloakify.onnxfile.domains import domain_of
from cloakify.onnxfile.walk import iter_graphs
from cloakify.onnxfile.wellformed import schema_of


def inline_local_functions(lowering: Lowering) -> bool:
    """Put the bodies of a model's own functions in the place of the nodes that call them.

    Raises
    ------
    ModelError
        onnx can't.
    """
    if not lowering.model.functions:
        return False
    # Functions may be written for other opsets than the graph that calls them: to convert them,
    # onnx wants the types of what they are called with.
    model = infer_shapes(lowering.model)
    with boundary("its functions can't be written out"):
        lowering.model = onnx.inliner.inline_local_functions(model, convert_version=True)
    return True


def expand_functions(model: ModelProto, keep: Keep) -> ModelProto:
    """Return ``model`` with every function operator that ``keep`` turns down replaced by its body.

    Raises
    ------
    ModelError
        onnx can't build the body of a node.
    """
    tried: set[tuple[str, str]] = set()
    while True:
        # A body may hold function operators in its turn.
        operators = {
            _key(node) for graph in iter_graphs(model.graph) for node in graph.node
        } - tried
        versions = {entry.domain: entry.version for entry in model.opset_import}
        chosen = sorted(key for key in operators if not keep(*key) and _has_body(key, versions))
        if not chosen:
            if tried:
                _restore_softmax(model)
            return model
        _declare_initializers(model)
        _write_defaults(model, chosen, versions)
        names = ", ".join(op_type for _, op_type in chosen)
        with boundary(f"can't write out {names}"):
            model = onnx.inliner.inline_selected_functions(
                model, chosen, exclude=False, inline_schema_functions=True
            )
        tried.update(chosen)


def _restore_softmax(model: ModelProto) -> None:
    """Put `Softmax` back where its own body was written out along with that around it, in place.

    Its rule is cheaper than those of its parts, and knows rows that are masked whole.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute:
            constants[node.output[0]] = node.attribute[0].t

    def maker(name: str, op_type: str) -> NodeProto | None:
        node = made.get(name)
        return node if node is not None and node.op_type == op_type else None

    for node in model.graph.node:
        if node.op_type != "Div":
            continue
        power, total = maker(node.input[0], "Exp"), maker(node.input[1], "ReduceSum")
        if power is None or total is None or total.input[0] != node.input[0]:
            continue
        shifted = maker(power.input[0], "Sub")
        largest = None if shifted is None else maker(shifted.input[1], "ReduceMax")
        if shifted is None or largest is None or largest.input[0] != shifted.input[0]:
            continue
        axes = [
            values_of(constants[part.input[1]]).reshape(-1).tolist()
            for part in (largest, total)
            if len(part.input) > 1 and part.input[1] in constants
        ]
        if len(axes) == 2 and axes[0] == axes[1] and len(axes[0]) == 1:
            node.op_type, node.input[:] = "Softmax", shifted.input[:1]
            node.attribute.append(onnx.helper.make_attribute("axis", axes[0][0]))


def _declare_initializers(model: ModelProto) -> None:
    """Write down the types of initializers: onnx's inliner looks for them among the values."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    known = {value.name for value in values}
    for tensor in model.graph.initializer:
        if tensor.name not in known:
            model.graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )


def _write_defaults(
    model: ModelProto, chosen: Collection[tuple[str, str]], versions: dict[str, int]
) -> None:
    """Write down attributes that nodes leave to their defaults, in place.

    A body refers to them, and where a node lacks one onnx's inliner leaves it out there as well:
    the `Constant` that holds the ``periodic`` of a `HannWindow` then holds nothing.
    """
    for graph in iter_graphs(model.graph):
        for node in graph.node:
            if _key(node) not in chosen:
                continue
            schema = schema_of(*_key(node), versions.get(domain_of(node), 0))
            given = {attribute.name for attribute in node.attribute}
            for name, attribute in schema.attributes.items() if schema else ():
                if name not in given and attribute.default_value.name:
                    node.attribute.append(attribute.default_value)


def _key(node: NodeProto) -> tuple[str, str]:
    return domain_of(node), node.op_type


def _has_body(key: tuple[str, str], versions: dict[str, int]) -> bool:
    domain, op_type = key
    # onnx's stubs leave the two out.
    schema: Any = schema_of(domain, op_type, versions.get(domain, 0))
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)
