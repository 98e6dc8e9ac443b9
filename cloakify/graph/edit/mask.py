"""Put a mask before the head, and take it out again.

    Gemm(φ, W, b)   becomes   Gemm(Mul(φ, m), W, b)

The message is edited in place and minimally: one initializer, one node, one rewired edge (of a head
that first brings its features to one length: each by which it reads them) and `cloakify.*`
metadata; every other byte stays. Taking the mask out gives the source back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from cloakify.errors import HeadError, ModelError
from cloakify.graph.analysis.head import Head
from cloakify.graph.model.branches import exposing, graphs_taken
from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import store
from cloakify.onnxfile import FLOATS, read_metadata, values_of, write_metadata
from cloakify.onnxfile.walk import iter_graphs

MASK = "cloakify_mask"
MASK_NODE = "cloakify_mask_mul"
MASKED_FEATURES = "cloakify_masked_features"


# What reads features for a head whose weight another node holds, or whose weights are no floats.
_APART = {
    *("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "LinearClassifier", "MatMulNBits"),
    *("QuantizeLinear", "SVMClassifier", "Transpose"),
}


@dataclass(frozen=True)
class InstalledMask:
    """A mask found in a model: its values [D] and the node that multiplies by it."""

    values: np.ndarray
    node: NodeProto

    @property
    def name(self) -> str:
        """Of the tensor of its values."""
        return self.node.input[1]


def insert_mask(
    model: ModelProto, head: Head, mask: np.ndarray, metadata: Mapping[str, str]
) -> ModelProto:
    """Return a copy of ``model`` with a constant `Mul` mask before its head.

    Parameters
    ----------
    model
        The source; weights need not be loaded. It must hold no mask.
    head
        Its head.
    mask
        D factors, any float dtype; stored in the dtype of the head's weights.
    metadata
        Entries to write, keys without the ``cloakify.`` prefix.

    Raises
    ------
    HeadError
        The head's features have a type a `Mul` mask can't take (quantised ones).
    ModelError
        The mask's length is not D, or the model is masked already.
    """
    if mask.shape != (head.num_features,):
        raise ModelError(f"the mask has shape {mask.shape}, the head {head.num_features} features")
    if find_mask(model) is not None:
        raise ModelError("the model holds a cloakify mask already; --replace-mask swaps it out")
    suffix = _free_suffix(model)
    hardened = ModelProto()
    hardened.CopyFrom(model)
    graph, place, nodes = _reading_nodes(hardened, head)
    values = mask_values(features_type(hardened, head), head, mask)
    store(hardened, onnx.numpy_helper.from_array(values, MASK + suffix))
    for node, slot in nodes:
        node.input[slot] = MASKED_FEATURES + suffix
    graph.node.insert(place, _multiply(head.features, suffix))
    write_metadata(hardened, metadata)
    return hardened


def mask_values(element_type: int, head: Head, mask: np.ndarray) -> np.ndarray:
    """Return a mask [D] in the :func:`features_type`, in a shape that broadcasts along features."""
    return _shaped(mask, head).astype(onnx.helper.tensor_dtype_to_np_dtype(element_type))


def mask_as_input(model: ModelProto, head: Head) -> tuple[ModelProto, str]:
    """Return a copy of ``model`` that takes its mask as an input, and that input's name.

    One session then serves any mask; what to feed is :func:`mask_values`.

    Raises
    ------
    HeadError, ModelError
        As :func:`insert_mask`.
    """
    masked = insert_mask(model, head, np.ones(head.num_features), {})
    stored = masked.graph.initializer[-1]
    name = stored.name
    value = onnx.helper.make_tensor_value_info(name, stored.data_type, list(stored.dims))
    _remove(masked.graph.initializer, name)
    _remove(masked.graph.input, name)
    masked.graph.input.append(value)
    return masked, name


def find_mask(model: ModelProto) -> InstalledMask | None:
    """Return the mask that cloakify put into a model, or ``None``.

    Raises
    ------
    ModelError
        There are traces of a mask (node, initializer or metadata) that do not make one.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [
        node
        for graph in iter_graphs(model.graph)
        for node in graph.node
        # In a branch others may have such names as well; ours reads what is stored outside.
        if _suffix_of(node) is not None
        and (graph is model.graph or any(name in tensors for name in node.input[1:]))
    ]
    said = read_metadata(model)
    claimed = "mask.sha256" in said and said.get("method") != "tuned"
    if not nodes and not claimed:
        return None
    if not nodes and MASK not in tensors:
        raise ModelError("the metadata speaks of a cloakify mask, but the graph holds none")
    if len(nodes) != 1 or not _is_ours(nodes[0], tensors):
        raise ModelError("the graph holds parts of a cloakify mask; it was edited after hardening")
    return InstalledMask(values_of(tensors[nodes[0].input[1]]).reshape(-1), nodes[0])


def strip_mask(model: ModelProto) -> ModelProto:
    """Return a copy of ``model`` without cloakify's mask and metadata: its source.

    Raises
    ------
    ModelError
        The model holds no mask, or one that was tampered with.
    """
    installed = find_mask(model)
    if installed is None:
        raise ModelError("the model holds no cloakify mask")
    source = ModelProto()
    source.CopyFrom(model)
    features, masked = installed.node.input[0], installed.node.output[0]
    _remove(source.graph.initializer, installed.name)
    _remove(source.graph.input, installed.name)
    for graph in iter_graphs(source.graph):
        for place in reversed(range(len(graph.node))):
            if masked in graph.node[place].output:
                del graph.node[place]
        for node in graph.node:
            for slot, name in enumerate(node.input):
                if name == masked:
                    node.input[slot] = features
    write_metadata(source, {})
    return source


def mask_digest(mask: np.ndarray) -> str:
    """Return the SHA-256 of a mask: of its values as little-endian float32, in order."""
    return hashlib.sha256(mask.astype("<f4").tobytes()).hexdigest()


def _remove(entries, name: str) -> None:  # type: ignore[no-untyped-def]
    for place in reversed(range(len(entries))):
        if entries[place].name == name:
            del entries[place]


def _multiply(features: str, suffix: str) -> NodeProto:
    names = (name + suffix for name in (MASK, MASKED_FEATURES, MASK_NODE))
    mask, masked, node = names
    return onnx.helper.make_node("Mul", [features, mask], [masked], node)


def _suffix_of(node: NodeProto) -> str | None:
    """Return what stands behind the name of a node that is called as ours are, or ``None``."""
    match = re.fullmatch(rf"{MASK_NODE}(|_\d+)", node.name, re.ASCII)
    return None if match is None else match.group(1)


def _free_suffix(model: ModelProto) -> str:
    """Return what to put behind our names, so that the model has none of them: most often ""."""
    taken = names_in(model)
    suffix, number = "", 0
    while any(name + suffix in taken for name in (MASK, MASKED_FEATURES, MASK_NODE)):
        number += 1
        suffix = f"_{number}"
    return suffix


def _is_ours(node: NodeProto, tensors: Mapping[str, TensorProto]) -> bool:
    """Tell whether node and tensor are what :func:`insert_mask` writes, to the byte."""
    suffix = _suffix_of(node)
    if suffix is None or len(node.input) != 2 or node.input[1] not in tensors:
        return False
    tensor = tensors[node.input[1]]
    if tensor.data_type not in FLOATS or tensor.data_location != TensorProto.DEFAULT:
        return False
    try:
        values = values_of(tensor)
    except ModelError:
        return False
    pairs = (
        (node, _multiply(node.input[0], suffix)),
        (tensor, onnx.numpy_helper.from_array(values, MASK + suffix)),
    )
    return all(
        there.SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)
        for there, made in pairs
    )


def _reading_nodes(
    model: ModelProto, head: Head
) -> tuple[GraphProto, int, list[tuple[NodeProto, int]]]:
    """Return the graph that the head is in, where its features are read first, and all that do.

    Those are nodes of the head, each with the number of its input.
    """
    for graph in graphs_taken(model):
        if head.read_by:
            readers = [
                (place, node, slot)
                for place, node in enumerate(graph.node)
                if node.output and node.output[0] in head.read_by
                for slot, name in enumerate(node.input)
                if name == head.features
            ]
            if {node.output[0] for _, node, _ in readers} == {*head.read_by}:
                return graph, readers[0][0], [(node, slot) for _, node, slot in readers]
            continue
        for place, node in enumerate(graph.node):
            # Names may be repeated in a file; what a node reads tells them apart.
            reads = list(node.input)[head.features_slot : head.features_slot + 1] == [head.features]
            named = head.node in (node.name, *node.output) and node.op_type == head.op_type
            if named and reads and (node.op_type in _APART or head.weight in node.input):
                return graph, place, [(node, head.features_slot)]
    raise HeadError(f"the graph has no {head.op_type} called {head.node!r}")


def features_type(model: ModelProto, head: Head) -> int:
    """Return the features' element type: that of the weights, by the operators' definitions.

    Raises
    ------
    HeadError
        A mask can't be multiplied into that type: it is none of floats.
    """
    model = exposing(model, [name for name in (head.features, head.weight) if name])
    if not head.weight:
        # What DynamicQuantizeLinear takes, and a pipeline's last step, unless it says otherwise.
        values = (*model.graph.input, *model.graph.value_info)
        kinds = {value.name: value.type.tensor_type.elem_type for value in values}
        read = kinds.get(head.features) or TensorProto.FLOAT
        if read not in FLOATS:
            name = TensorProto.DataType.Name(read)
            raise HeadError(f"the head {head.node!r} reads {name}; a mask needs a float type")
        return int(read)
    produced = {name: node for node in model.graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    initializers |= {sparse.values.name: sparse.values for sparse in model.graph.sparse_initializer}
    name = head.weight
    while name not in initializers:
        node = produced[name]
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Cast":
            return int(attributes["to"].i)
        if node.op_type in ("Constant", "ConstantOfShape"):
            given = attributes.get("value")
            return int(TensorProto.FLOAT if given is None else given.t.data_type)
        # A dequantised weight has the type of its scale.
        name = node.input[1] if node.op_type == "DequantizeLinear" else node.input[0]
    element_type = initializers[name].data_type
    if element_type not in FLOATS:
        kind = TensorProto.DataType.Name(element_type)
        raise HeadError(f"the head {head.node!r} computes in {kind}; a mask needs a float type")
    return int(element_type)


def _shaped(mask: np.ndarray, head: Head) -> np.ndarray:
    """Give the mask the shape in which it broadcasts along the features."""
    if head.kernel:
        return mask.reshape(1, -1, *head.kernel)
    if head.features_axis == 1:
        # As many axes as the features have: a lower rank would broadcast against positions.
        return mask.reshape(1, -1, *[1] * head.positions)
    return mask if head.features_axis == -1 else mask.reshape(-1, 1)
