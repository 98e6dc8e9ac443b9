"""Which layer of a file is which of its source, and what the file computes in by that.

What stands in a file beside its layers (a cast there and back, a quantised product that comes to
nothing) rounds none of them. So a file counts as quantised, or as one of 16 bits, by the layers of
its source: where these are found in it as floats of 32 bits, no larger tolerance is due.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.boundary import boundary
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.rewrite import attribute
from cloakify.hardening.layers_read import ReadLayer, read_layers
from cloakify.numeric.arrays import Doubles
from cloakify.onnxfile import FLOATS, HALVES
from cloakify.runtime.simplified import simplified

FULL, HALF, QUANTISED = "floats of 32 bits", "floats of 16 bits", "quantised numbers"

# How far a layer's weights may be from those of the source, scaled by channel.
NEAR = {FULL: 1e-3, HALF: 0.02, QUANTISED: 0.3}

# Operators whose constants are one for each number, or looked up: no weights of a layer.
_NO_LAYERS = {"Add", "Div", "Gather", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Where"}
# What a weight goes through before a layer takes it.
_LEADS = {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Transpose"}
_QUANTISED_KINDS = ("uantize", "QLinear", "QGemm", "Integer", "NBits")


def arithmetic_of(source: ModelProto, file: ModelProto) -> str:
    """Say what a file computes its source's layers in, as a key of :data:`NEAR`.

    Raises
    ------
    ModelError
        Their constants are of shapes that can't be compared.
    """
    used = leading_to(file.graph.node, [value.name for value in file.graph.output])
    types = _element_types(file)
    most = _loosest(used.nodes, [types[name] for name in used.values & types.keys()])
    if most == FULL:
        return FULL
    with boundary("its layers can't be compared with the source's"):
        kinds = _kinds_of_layers(source, file)
        if kinds is None:
            kinds = _kinds_of_layers(simplified(source), simplified(file))
    return most if kinds is None else max(kinds, key=list(NEAR).index)


def matching(
    layer: ReadLayer, others: Sequence[ReadLayer], near: float
) -> tuple[ReadLayer, Doubles] | None:
    """Return the layer whose weights are nearest to one's, and by how much each channel differs."""
    best: tuple[float, ReadLayer, Doubles] | None = None
    for off, other, ratio in _alike(layer, others):
        if off <= near and (best is None or off < best[0] / 2):
            best = off, other, ratio
    return None if best is None else best[1:]


def _alike(
    layer: ReadLayer, others: Sequence[ReadLayer]
) -> Iterator[tuple[float, ReadLayer, Doubles]]:
    """Yield how far layers of the same sizes are off, and what each channel is multiplied by."""
    own = layer.weights[0]
    size = np.square(own).sum(axis=1)
    for other in others:
        for weights in other.weights:
            # Where weights are laid out in blocks, channels of zeros may fill the last one up.
            longest = len(weights) if len(other.weights) > 1 else len(own)
            if weights.shape[1] != own.shape[1] or not len(own) <= len(weights) <= longest:
                continue
            cut = weights[: len(own)]
            ratio = np.where(size > 0, (cut * own).sum(axis=1) / np.where(size > 0, size, 1), 1)
            whole = max(float(np.linalg.norm(cut)), float(np.finfo(np.float32).tiny))
            yield float(np.linalg.norm(cut - ratio[:, None] * own)) / whole, other, ratio


def _kinds_of_layers(source: ModelProto, file: ModelProto) -> list[str] | None:
    """Return what the source's layers are computed in, one by one.

    ``None`` where a layer is found in neither form: it may be one that was quantised.
    """
    before, after = read_layers(source), read_layers(file)
    if not before or _layers_not_read(source, before):
        return None
    types = _element_types(file)
    makers = {name: node for node in file.graph.node for name in node.output}
    nodes: dict[str, list[NodeProto]] = {}
    for node in file.graph.node:
        # Names of nodes are unique only where whoever wrote them took care.
        nodes.setdefault(node.name or "".join(node.output[:1]), []).append(node)
    kinds = []
    for layer in before:
        alike = list(_alike(layer, after))
        # Of equally good ones the strictest: a rounded copy beside a layer rounds nothing. A mask
        # in its weights makes a layer another, of the same sizes.
        close = [other for off, other, _ in alike if off <= NEAR[QUANTISED]]
        found = {
            _loosest(*_leading_in(node, types, makers))
            for each in close or [other for _, other, _ in alike]
            for node in nodes[each.node]
        }
        if not found:
            return None
        kinds.append(min(found, key=list(NEAR).index))
    return kinds


def _layers_not_read(model: ModelProto, read: Sequence[ReadLayer]) -> bool:
    """Tell whether weights stand in nodes of other kinds than are read as layers."""
    names = {layer.node for layer in read}
    matrices = {
        tensor.name
        for tensor in model.graph.initializer
        if sum(size > 1 for size in tensor.dims) > 1 and tensor.data_type in FLOATS
    }
    return any(
        matrices.intersection(node.input) and (node.name or node.output[0]) not in names
        for node in model.graph.node
        if node.op_type not in _NO_LAYERS | _LEADS
    )


def _leading_in(
    layer: NodeProto, types: dict[str, int], makers: dict[str, NodeProto]
) -> tuple[list[NodeProto], list[int]]:
    """Return a layer and the nodes that make its weights, and the types of what these hold."""
    nodes, names = [layer], list(layer.input[1:])
    held = []
    while names:
        name = names.pop()
        maker = makers.get(name)
        if name in types:
            held.append(types[name])
        if maker is not None and maker.op_type in _LEADS | {"Constant"}:
            nodes.append(maker)
            names.extend(maker.input)
    return nodes, held


def _loosest(nodes: Sequence[NodeProto], held: Sequence[int]) -> str:
    """Say what nodes compute in, by what they are and by the types of the constants they hold."""
    if any(part in node.op_type for node in nodes for part in _QUANTISED_KINDS):
        return QUANTISED
    return HALF if any(each in HALVES for each in held) else FULL


def _element_types(file: ModelProto) -> dict[str, int]:
    """Return the types of constants, by name."""
    types = {tensor.name: tensor.data_type for tensor in file.graph.initializer}
    for node in file.graph.node:
        tensor = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(tensor, TensorProto):
            types[node.output[0]] = tensor.data_type
    return types
