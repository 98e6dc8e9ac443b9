"""Cut a model down to some of its inner values: what is needed to return them, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import ModelProto, ValueInfoProto

from cloakify.errors import HeadError
from cloakify.graph.model.branches import exposing
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.names import names_in


def tap(model: ModelProto, outputs: Sequence[str]) -> ModelProto:
    """Return a copy of ``model`` whose outputs are the values of these names, in this order.

    Nodes that they do not need are dropped, so what follows the logits (label look-ups, maps)
    costs nothing and can break nothing. Initializers stay; the runtime drops unused ones. Values
    inside a branch that is always taken can be asked for as well.
    """
    model = exposing(model, outputs)
    cut = ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[:]
    cut.graph.node.extend(leading_to(model.graph.node, outputs).nodes)
    del cut.graph.output[:]
    # ONNX Runtime infers the type of an output that is only named.
    cut.graph.output.extend(ValueInfoProto(name=name) for name in outputs)
    return cut


def with_parts(model: ModelProto, parts: Sequence[str]) -> tuple[ModelProto, str]:
    """Return a copy of ``model`` that puts values [N, …] side by side, and the name of that."""
    joined = ModelProto()
    joined.CopyFrom(model)
    name = names_in(joined).fresh("cloakify_parts")
    joined.graph.node.append(onnx.helper.make_node("Concat", list(parts), [name], name, axis=-1))
    return joined, name


def value_of_rank(name: str, element_type: int, rank: int) -> ValueInfoProto:
    """Describe a value by its type and how many axes it has, of any size."""
    sizes: list[int | None] = [None] * rank
    return onnx.helper.make_tensor_value_info(name, element_type, sizes)


def head_model(model: ModelProto, features: ValueInfoProto, logits: str) -> ModelProto:
    """Return the part of ``model`` from its features to its logits as a model of its own.

    Parameters
    ----------
    features
        Name, type and shape of the features; they become the part's only data input.

    Raises
    ------
    HeadError
        The logits depend on the input by another way than the features.
    """
    part = tap(model, [logits])
    needed = leading_to(part.graph.node, [logits], given=[features.name])
    del part.graph.node[:]
    part.graph.node.extend(needed.nodes)
    constants = {tensor.name for tensor in part.graph.initializer}
    others = needed.values - constants - {features.name}
    around = [value.name for value in part.graph.input if value.name in others]
    if around:
        raise HeadError(f"the logits {logits!r} depend on {around[0]!r} not only by the features")
    del part.graph.input[:]
    part.graph.input.append(features)
    part.ir_version = max(part.ir_version, 4)
    return part
