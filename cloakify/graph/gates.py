"""Gates: one constant factor a channel, multiplied into what a layer puts out.

    y = W x + b   becomes   y = gate · (W x + b) = (gate·W) x + gate·b

A gate stands directly behind a linear layer or a normalisation, before any activation, so that it
can be folded into that layer's weights exactly (see :mod:`~cloakify.graph.fold`). Put in as `Mul`,
a gate takes over the name of the value it gates; the layer's own output gets a new one. One node,
one initializer and one renamed output are all that changes, and taking them out gives the source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from cloakify.errors import ModelError
from cloakify.graph.gate_sites import GateSite
from cloakify.graph.writing import names_of
from cloakify.onnxfile import write_metadata

GATE = "cloakify_gate"
GATE_NODE = "cloakify_gate_mul"
UNGATED = "cloakify_ungated"

_NUMBERED = re.compile(rf"{GATE_NODE}_\d+")

Gates = Sequence[np.ndarray]


def insert_gates(
    model: ModelProto, sites: Sequence[GateSite], gates: Gates, metadata: Mapping[str, str]
) -> ModelProto:
    """Return a copy of ``model`` with a constant `Mul` behind each site.

    Parameters
    ----------
    model
        The source; weights need not be loaded. It must hold no gates.
    sites
        Where, from :func:`~cloakify.graph.gate_sites.find_gate_sites`.
    gates
        The factors of each site, [channels], any float dtype; stored in the site's own.
    metadata
        Entries to write, keys without the ``cloakify.`` prefix.

    Raises
    ------
    ModelError
        The model holds gates already, or a vector of gates has the wrong length.
    """
    if has_gates(model):
        raise ModelError("the model holds cloakify gates already")
    gated = ModelProto()
    gated.CopyFrom(model)
    places = {name: place for place, node in enumerate(gated.graph.node) for name in node.output}
    taken = names_of(model)
    for number in range(len(sites)):
        for name in (gate_name(number), f"{UNGATED}_{number}"):
            if name in taken:
                raise ModelError(f"the model has a value called {name!r} of its own; rename it")
    inserted: dict[int, NodeProto] = {}
    for number, (site, values) in enumerate(zip(sites, gates, strict=True)):
        if values.shape != (site.channels,):
            raise ModelError(f"{site.name!r} has {site.channels} channels, not {values.shape}")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(site.element_type)
        name = gate_name(number)
        stored = values.astype(dtype).reshape(site.shape)
        gated.graph.initializer.append(onnx.numpy_helper.from_array(stored, name))
        if gated.ir_version < 4:
            # Until IR version 4 every initializer had to be an input as well.
            gated.graph.input.append(
                onnx.helper.make_tensor_value_info(name, site.element_type, site.shape)
            )
        place = places[site.output]
        outputs = gated.graph.node[place].output
        outputs[list(outputs).index(site.output)] = f"{UNGATED}_{number}"
        inserted[place] = onnx.helper.make_node(
            "Mul", [f"{UNGATED}_{number}", name], [site.output], f"{GATE_NODE}_{number}"
        )
    for place in sorted(inserted, reverse=True):
        gated.graph.node.insert(place + 1, inserted[place])
    write_metadata(gated, metadata)
    return gated


def gate_name(number: int) -> str:
    """Return the name of the initializer (or input) that holds the gates of a site."""
    return f"{GATE}_{number}"


def has_gates(model: ModelProto) -> bool:
    """Tell whether a model holds gates as `Mul` nodes."""
    return any(_NUMBERED.fullmatch(node.name) for node in model.graph.node)


def open_gates(model: ModelProto) -> ModelProto:
    """Return a copy of a model with gates in which they are inputs instead of constants.

    One session of it serves every value of the gates.
    """
    opened = ModelProto()
    opened.CopyFrom(model)
    names = set(_gate_names(model))
    declared = {value.name for value in model.graph.input}
    for place in reversed(range(len(opened.graph.initializer))):
        tensor = opened.graph.initializer[place]
        if tensor.name in names:
            if tensor.name not in declared:
                opened.graph.input.append(
                    onnx.helper.make_tensor_value_info(
                        tensor.name, tensor.data_type, list(tensor.dims)
                    )
                )
            del opened.graph.initializer[place]
    return opened


def read_gates(model: ModelProto) -> list[np.ndarray]:
    """Return the gates in a model, [channels] each, in the order of their numbers.

    Raises
    ------
    ModelError
        A gate's node or its constant is missing or not as :func:`insert_gates` made it.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found: list[np.ndarray] = []
    for name in _gate_names(model):
        if name not in tensors:
            raise ModelError(f"the gates {name!r} are no initializer; the file was edited")
        found.append(onnx.numpy_helper.to_array(tensors[name]).reshape(-1))
    return found


def strip_gates(model: ModelProto) -> ModelProto:
    """Return a copy of ``model`` without gates and without cloakify's metadata: its source.

    Raises
    ------
    ModelError
        The model holds no gates, or such that were tampered with.
    """
    names = _gate_names(model)
    if not names:
        raise ModelError("the model holds no cloakify gates")
    source = ModelProto()
    source.CopyFrom(model)
    graph = source.graph
    renamed: dict[str, str] = {}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if _NUMBERED.fullmatch(node.name):
            renamed[node.input[0]] = node.output[0]
            del graph.node[place]
    for node in graph.node:
        for slot, name in enumerate(node.output):
            node.output[slot] = renamed.get(name, name)
    for entries in (graph.initializer, graph.input):
        for place in reversed(range(len(entries))):
            if entries[place].name in names:
                del entries[place]
    write_metadata(source, {})
    return source


def gates_digest(gates: Gates) -> str:
    """Return the SHA-256 of all gates: of their values as little-endian float32, in order."""
    digest = hashlib.sha256()
    for values in gates:
        digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def _gate_names(model: ModelProto) -> list[str]:
    """Return the names of the gates in a model; its nodes must be numbered from 0 on."""
    nodes = {node.name: node for node in model.graph.node if _NUMBERED.fullmatch(node.name)}
    names: list[str] = []
    for number in range(len(nodes)):
        node = nodes.get(f"{GATE_NODE}_{number}")
        inputs = [f"{UNGATED}_{number}", gate_name(number)]
        if node is None or node.op_type != "Mul" or node.domain or list(node.input) != inputs:
            raise ModelError(
                f"the graph holds parts of cloakify gates (number {number} is not one)"
            )
        names.append(inputs[1])
    return names
