"""Cut a model down to some of its inner values: what is needed to return them, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto

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
        The logits depend on the input by another way than the features, but for how many samples
        it has, which the features tell as well.
    """
    part = tap(model, [logits])
    constants = {tensor.name for tensor in part.graph.initializer}

    def around() -> list[str]:
        """Keep what leads from features to logits; return the inputs that it takes besides."""
        needed = leading_to(part.graph.node, [logits], given=[features.name])
        del part.graph.node[:]
        part.graph.node.extend(needed.nodes)
        others = needed.values - constants - {features.name}
        return [value.name for value in part.graph.input if value.name in others]

    left = around()
    if left:
        _count_samples_by(features.name, part)
        left = around()
    if left:
        raise HeadError(f"the logits {logits!r} depend on {left[0]!r} not only by the features")
    del part.graph.input[:]
    part.graph.input.append(features)
    part.ir_version = max(part.ir_version, 4)
    return part


def _count_samples_by(features: str, part: ModelProto) -> None:
    """Let the features tell how many samples there are where nodes read that of something else."""
    for node in part.graph.node:
        if node.op_type == "Shape" and node.input[0] != features and _counts_samples(node, part):
            node.input[0] = features


def _counts_samples(shape: NodeProto, part: ModelProto) -> bool:
    """Tell whether all that is read of a shape is its first size."""
    attributes = {entry.name: entry.i for entry in shape.attribute}
    if attributes.get("start", 0) == 0 and attributes.get("end") == 1:
        return True
    readers = [node for node in part.graph.node if shape.output[0] in node.input]
    return bool(readers) and all(
        node.op_type == "Gather" and _number(node.input[1], part) == 0 for node in readers
    )


def _number(name: str, part: ModelProto) -> int | None:
    """Return the one whole number that a constant holds, or ``None``."""
    tensors = [tensor for tensor in part.graph.initializer if tensor.name == name]
    for node in part.graph.node:
        if node.op_type == "Constant" and name in node.output:
            tensors += [entry.t for entry in node.attribute if entry.name == "value"]
    if len(tensors) != 1 or tensors[0].data_type != onnx.TensorProto.INT64:
        return None
    values = onnx.numpy_helper.to_array(tensors[0])
    return int(values.item()) if values.size == 1 else None
