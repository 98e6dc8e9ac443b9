"""Gates: constant factors on the channels of what a layer puts out, and shifts or gated biases.

    y = W x + b   becomes   y = gate · (W x + b) + shift   or   y = gate · (W x + bias gate · b)

A gate stands directly behind a linear layer or a normalisation, before any activation, so that it
can be folded into that layer's weights exactly (see :mod:`~cloakify.graph.edit.fold`). Put in as
`Mul`, a gate takes over the name of the value it gates; the layer's own output gets a new one. A
shift is an `Add` behind the gate, which takes over the name in turn; both are numbered in one row,
and "gates" below speaks of both. A bias is gated on its way to the layer that adds it, for which
the runtime spends nothing: both are constants. One node, one initializer and one renamed output or
rewired input are all that changes, and taking them out gives the source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from operator import itemgetter

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.gate_sites import GateSite
from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import Writer, replace_nodes, store
from cloakify.onnxfile import values_of, write_metadata

GATE, SHIFT = "cloakify_gate", "cloakify_shift"
GATE_NODE, SHIFT_NODE = f"{GATE}_mul", f"{SHIFT}_add"
UNGATED = "cloakify_ungated"
GATED = "cloakify_gated"

_NUMBERED = re.compile(rf"(?:{GATE_NODE}|{SHIFT_NODE})_(\d+)")

Gates = Sequence[np.ndarray]


def insert_gates(
    model: ModelProto, sites: Sequence[GateSite], gates: Gates, metadata: Mapping[str, str]
) -> ModelProto:
    """Return a copy of ``model`` with a constant `Mul` (or `Add`, of shifts) behind each site.

    Parameters
    ----------
    model
        The source; weights need not be loaded. It must hold no gates.
    sites
        Where, from :func:`~cloakify.graph.analysis.gate_sites.find_gate_sites`.
    gates
        The factors or shifts of each site, [channels], any float dtype; stored in the site's own.
    metadata
        Entries to write, keys without the ``cloakify.`` prefix.

    Raises
    ------
    ModelError
        The model holds gates already, or a vector of gates has the wrong length.
    """
    gated, places = _prepared(model, sites)
    makers = {name: gated.graph.node[place] for name, place in places.items()}
    inserted: list[tuple[int, bool, NodeProto]] = []
    for number, (site, values) in enumerate(zip(sites, gates, strict=True)):
        if values.shape != (site.channels,):
            raise ModelError(f"{site.name!r} has {site.channels} channels, not {values.shape}")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(site.element_type)
        name = gate_name(number, site)
        stored = values.astype(dtype).reshape(site.shape)
        store(gated, onnx.numpy_helper.from_array(stored, name))
        if site.bias is None:
            place = places[site.output] + 1
            _rename_output(makers[site.output], site.output, f"{UNGATED}_{number}")
            ends = f"{UNGATED}_{number}", site.output
        else:
            place = places[site.bias.reader]
            gated.graph.node[place].input[site.bias.place] = f"{GATED}_{number}"
            ends = site.bias.value, f"{GATED}_{number}"
        called = f"{SHIFT_NODE if site.adds else GATE_NODE}_{number}"
        node = onnx.helper.make_node(operator_of(site), [ends[0], name], [ends[1]], called)
        makers[ends[1]] = node
        inserted.append((place, site.adds, node))
    # Backwards, a shift before the gate that it stands behind.
    for place, _, node in sorted(inserted, key=itemgetter(0, 1), reverse=True):
        gated.graph.node.insert(place, node)
    write_metadata(gated, metadata)
    return gated


def _prepared(model: ModelProto, sites: Sequence[GateSite]) -> tuple[ModelProto, dict[str, int]]:
    """Return a copy that can take gates, and which of its nodes makes each value.

    Raises
    ------
    ModelError
        It holds gates already, or values with the names that they take.
    """
    if has_gates(model):
        raise ModelError("the model holds cloakify gates already")
    names = names_in(model)
    for number, site in enumerate(sites):
        for name in (gate_name(number, site), f"{UNGATED}_{number}", f"{GATED}_{number}"):
            if name in names:
                raise ModelError(f"the model has a value called {name!r} of its own; rename it")
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy, {name: place for place, node in enumerate(copy.graph.node) for name in node.output}


def _rename_output(node: NodeProto, old: str, new: str) -> None:
    node.output[list(node.output).index(old)] = new


def gate_name(number: int, site: GateSite) -> str:
    """Return the name of the initializer (or input) that holds the gates or shifts of a site."""
    return f"{SHIFT if site.adds else GATE}_{number}"


def operator_of(site: GateSite) -> str:
    """Return the operator that puts a site's constants in."""
    return "Add" if site.adds else "Mul"


def has_gates(model: ModelProto) -> bool:
    """Tell whether a model holds gates or shifts as nodes."""
    return any(_NUMBERED.fullmatch(node.name) for node in model.graph.node)


def gated_outputs(model: ModelProto) -> set[str]:
    """Return the names of what gates and shifts as nodes put out, the source's own names."""
    nodes = [node for node in model.graph.node if _NUMBERED.fullmatch(node.name)]
    return {name for node in nodes for name in node.output}


def open_gates(model: ModelProto, sites: Sequence[GateSite]) -> ModelProto:
    """Return a copy of ``model`` with gates that are inputs instead of constants.

    One session of it serves every value of the gates. The gate of a bias stands behind its layer,
    ``y + (gate - 1) · b``, which is the same: the layer keeps its constants, without which the
    runtime has but slow kernels for it.

    Parameters
    ----------
    model
        The source, without gates.
    sites
        Where; the gates of the one numbered k are the input ``gate_name(k, site)``, of its shape.

    Raises
    ------
    ModelError
        The model holds gates already.
    """
    opened, places = _prepared(model, sites)
    graph = opened.graph
    names = names_in(opened)
    replacements: dict[int, list[NodeProto]] = {}
    # The gate of a bias before that of its output, which multiplies what it adds; shifts after.
    ordered = sorted(enumerate(sites), key=lambda pair: (pair[1].adds, -pair[0]))
    for number, site in ordered:
        place = places[site.output]
        chain = replacements.setdefault(place, [graph.node[place]])
        inner = f"{UNGATED}_{number}"
        _rename_output(chain[-1], site.output, inner)
        writer = Writer(names, f"opened_{number}")
        if site.bias is None:
            writer.op(operator_of(site), inner, gate_name(number, site), output=site.output)
        else:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(site.element_type)
            less = writer.op("Sub", gate_name(number, site), writer.constant(np.ones((), dtype)))
            added = writer.op("Mul", site.bias.value, less)
            if site.bias.spread is not None:
                added = writer.op("Reshape", added, writer.ints(*site.bias.spread))
            writer.op("Add", inner, added, output=site.output)
        chain.extend(writer.nodes)
        graph.initializer.extend(writer.constants)
    replace_nodes(graph, replacements)
    graph.input.extend(
        onnx.helper.make_tensor_value_info(gate_name(number, site), site.element_type, site.shape)
        for number, site in enumerate(sites)
    )
    return opened


def read_gates(model: ModelProto, *, shifts: bool = True) -> list[np.ndarray]:
    """Return the gates in a model, [channels] each, in the order of their numbers.

    Parameters
    ----------
    shifts
        Whether shifts are returned as well.

    Raises
    ------
    ModelError
        A gate's node or its constant is missing or not as :func:`insert_gates` made it.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    gates: list[np.ndarray] = []
    for name in _gate_names(model):
        if not shifts and name.startswith(SHIFT):
            continue
        if name not in tensors:
            raise ModelError(f"the gates {name!r} are no initializer; the file was edited")
        gates.append(values_of(tensors[name]).reshape(-1))
    return gates


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
    outer: dict[str, str] = {}
    inner: dict[str, str] = {}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        number = _NUMBERED.fullmatch(node.name)
        if number is not None:
            if node.output[0] == f"{GATED}_{number[1]}":
                inner[node.output[0]] = node.input[0]
            else:
                # Behind a gate its shift may stand, which has been seen already.
                outer[node.input[0]] = outer.get(node.output[0], node.output[0])
            del graph.node[place]
    for node in graph.node:
        for slot, name in enumerate(node.output):
            node.output[slot] = outer.get(name, name)
        for slot, name in enumerate(node.input):
            node.input[slot] = inner.get(name, name)
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
    matches = ((_NUMBERED.fullmatch(node.name), node) for node in model.graph.node)
    nodes = {match[1]: node for match, node in matches if match is not None}
    names: list[str] = []
    for number in range(len(nodes)):
        node = nodes.get(str(number))
        if node is None or not _is_gate(node, number):
            raise ModelError(
                f"the graph holds parts of cloakify gates (number {number} is not one)"
            )
        names.append(node.input[1])
    return names


def _is_gate(node: NodeProto, number: int) -> bool:
    if node.domain or len(node.input) != 2 or len(node.output) != 1:
        return False
    behind = node.input[0] == f"{UNGATED}_{number}"
    said = node.name, node.op_type, node.input[1]
    if said == (f"{SHIFT_NODE}_{number}", "Add", f"{SHIFT}_{number}"):
        return behind
    on_bias = node.output[0] == f"{GATED}_{number}"
    return said == (f"{GATE_NODE}_{number}", "Mul", f"{GATE}_{number}") and (behind or on_bias)
