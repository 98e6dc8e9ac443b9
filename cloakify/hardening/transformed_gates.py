"""Whether a file that was transformed after its gates were tuned still has them in force.

The counterpart of :mod:`~cloakify.hardening.transformed` for gates, which a tool may leave as nodes
or fuse into weights. Source and file are brought to one form, each layer of the source is looked
for in the file by its weights, and by what its channels are scaled and shifted there is read off.
That is put into the source again, and the two must answer alike on samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.boundary import boundary
from cloakify.errors import ModelError
from cloakify.graph.analysis.ending import Ending
from cloakify.graph.analysis.gate_sites import GateSite, find_gate_sites
from cloakify.graph.edit.gates import GATE, SHIFT, gates_digest, insert_gates
from cloakify.graph.edit.rounding import round_gates, round_shifts
from cloakify.hardening.layers_matched import FULL, HALF, NEAR, QUANTISED, arithmetic_of, matching
from cloakify.hardening.layers_read import ReadLayer, read_layers
from cloakify.hardening.transformed import Transformed, compared
from cloakify.hardening.transformed_answers import Feeds
from cloakify.numeric.arrays import Array, Doubles, floats
from cloakify.onnxfile import values_of
from cloakify.runtime import Device
from cloakify.runtime.simplified import simplified

# Gates and shifts below this are none: what the rounding of weights makes of a factor of 1.
NOTHING = {FULL: 1e-4, HALF: 0.005, QUANTISED: 0.05}


@dataclass(frozen=True)
class _Change:
    """What a layer's output is multiplied by, and what is added to it and to its gated bias."""

    site: GateSite
    gate: Doubles
    shift: Doubles
    bias: Doubles


def find_transformed_gates(
    source: ModelProto,
    ending: Ending,
    file: ModelProto,
    said: Mapping[str, str],
    feeds: Feeds,
    device: Device,
) -> Transformed:
    """Find gates in a file that was made from a tuned one, and tell that they are in force.

    Parameters
    ----------
    source, ending
        What was hardened, weights within it.
    file
        What the hardened file became, weights within it.
    said
        The file's metadata, which may have been lost.
    feeds
        Samples for the source's inputs.

    Raises
    ------
    ModelError
        There are no gates to be found in it, or they are not in force, with the reason.
    """
    arithmetic = arithmetic_of(source, file)
    # Its constants are of any shape, and its chains of nodes of any length.
    with boundary("its layers can't be compared with the source's"):
        sites = find_gate_sites(source, ending, shifts=True)
        changes = _find_gates(source, sites, file, arithmetic)
        if any(each.gate.size != each.site.channels for each in changes):
            sites = find_gate_sites(source, ending, by_position=True, shifts=True)
        sites, values = _as_sites(sites, changes)
        gated = insert_gates(source, sites, values, {})
    nothing = NOTHING[arithmetic]
    gates = sum(int((np.abs(each.gate - 1) > nothing).sum()) for each in changes)
    shifts = sum(int((np.abs(each.shift) > nothing * _size(each)).sum()) for each in changes)
    if not gates and not shifts:
        raise ModelError("its layers are the source's: no gates are found")
    closed = sum(int((each.gate == 0).sum()) for each in changes)
    total = sum(each.gate.size for each in changes)
    where = (
        f"{gates} of {total} gates and {shifts} shifts on {len(changes)} layers, {closed} closed"
    )
    named = said.get("mask.sha256") == _digest(sites, changes)
    what = f"the gates found on {len(changes)} layers"
    judged = compared(source, gated, file, feeds, device, what, arithmetic)
    return Transformed(where, closed, total, named, *judged, kind="gates")


def _find_gates(
    source: ModelProto, sites: Sequence[GateSite], file: ModelProto, arithmetic: str
) -> list[_Change]:
    """Return what is done to each layer of the source in a file."""
    before, after = (read_layers(simplified(model)) for model in (source, file))
    by_output = {step.output: (layer, step) for layer in before for step in layer.steps}
    makers = {name: node for node in file.graph.node for name in node.output}
    held = {tensor.name: tensor for tensor in file.graph.initializer}
    changes: list[_Change] = []
    for site in sites:
        if site.adds:
            continue
        if site.output not in by_output:
            kept = _kept_nodes(site, makers, held)
            changes += [] if kept is None else [kept]
            continue
        layer, place = by_output[site.output]
        match = matching(layer, after, NEAR[arithmetic])
        if match is None:
            raise ModelError(f"no layer in it has the weights of {site.name!r}, scaled or not")
        other, ratio = match
        after = [each for each in after if each is not other]
        changes.append(_difference(site, layer, place.scale, other, ratio))
    if not changes:
        raise ModelError("no layer that gates could stand behind can be read")
    return changes


def _kept_nodes(
    site: GateSite, makers: Mapping[str, NodeProto], held: Mapping[str, TensorProto]
) -> _Change | None:
    """Read gates and a shift off their nodes, behind a layer that is not told by its weights.

    ``None`` where the layer's output is not what such nodes put out.
    """
    found = {"Mul": np.ones(1), "Add": np.zeros(1)}
    value = site.output
    for op_type, kind in (("Add", SHIFT), ("Mul", GATE)):
        node = makers.get(value)
        if node is None or node.op_type != op_type:
            continue
        named = [name for name in node.input if name in held and name.startswith(kind)]
        if len(named) == 1:
            found[op_type] = values_of(held[named[0]]).astype(np.float64)
            value = next((name for name in node.input if name != named[0]), value)
    none = np.zeros(site.shape)
    gate, shift, _ = np.broadcast_arrays(found["Mul"], found["Add"], none)
    return None if value == site.output else _Change(site, gate, shift, none)


def _difference(
    site: GateSite, layer: ReadLayer, at_site: Doubles, other: ReadLayer, ratio: Doubles
) -> _Change:
    """Return by what the one layer becomes the other, where the gates of a site stand."""
    # Of images without the axis of samples, which other constants may do without, too.
    form = site.shape[1:] or site.shape
    spread = len(form) - 1

    def shaped(values: Doubles) -> Doubles:
        return values if values.size == 1 else values.reshape(-1, *[1] * spread)

    first, last = layer.steps[-1], other.steps[-1]
    gate = _even(shaped(ratio) * last.scale / first.scale)
    bias = other.bias[: layer.channels]
    whole = shaped(bias) * last.scale + last.shift
    own = shaped(layer.bias) * first.scale + first.shift
    # What stands behind the site scales shifts as well.
    shift = (whole - gate * own) / (first.scale / at_site)
    full = np.broadcast_shapes(form, gate.shape, shift.shape)
    parts = (np.broadcast_to(part, full) for part in (gate, shift, np.abs(gate * own)))
    return _Change(site, *parts)


def _even(gate: Doubles) -> Doubles:
    """Return gates with the sign of numbers that are none: rounding of channels that are closed."""
    return np.where(np.abs(gate) < float(np.finfo(np.float32).eps), 0.0, gate)


def _size(change: _Change) -> float:
    return max(1.0, float(change.bias.max(initial=0.0)))


def _as_sites(
    sites: Sequence[GateSite], changes: Sequence[_Change]
) -> tuple[list[GateSite], list[Array]]:
    """Return those of a source's sites of gates and shifts where some were found, with values."""
    by_output = {each.site.output: each for each in changes}
    chosen = [site for site in sites if site.output in by_output]
    values = []
    for site in chosen:
        each = by_output[site.output]
        part = each.shift if site.adds else each.gate
        values.append(floats(np.broadcast_to(part, site.shape).reshape(-1)))
    return chosen, values


def _digest(sites: Sequence[GateSite], changes: Sequence[_Change]) -> str:
    """Return what metadata would call these gates, rounded as tuned ones are."""
    by_output = {each.site.output: each for each in changes}
    values: list[Array] = []
    for site in sites:
        each = by_output[site.output]
        if site.adds:
            values.append(round_shifts(each.shift, each.bias if site.foldable else 0.0))
        else:
            values.append(round_gates(each.gate))
    return gates_digest([part.reshape(-1) for part in values])
