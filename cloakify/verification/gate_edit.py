"""The proof that tuned gates are the only change: by building the file again, and by running it.

What was done to the source is read off the hardened file alone: the constants of its `Mul` and
`Add` nodes, or the factor of each channel of its weights and the shift of its bias. Done to the
source again it must give the hardened file to the last bit, which leaves no room for any other
change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.errors import ModelError, UsageError
from cloakify.graph.analysis.ending import BareEnding, Ending
from cloakify.graph.analysis.gate_sites import GateSite, choose_sites, find_gate_sites
from cloakify.graph.edit.fold import fold_gates, recover_gates
from cloakify.graph.edit.gates import (
    gated_outputs,
    gates_digest,
    has_gates,
    insert_gates,
    read_gates,
)
from cloakify.graph.edit.taps import tap
from cloakify.onnxfile import HALVES, OnnxFile, read_metadata
from cloakify.runtime import Device, Session
from cloakify.verification.mask_edit import (
    CLAIMS,
    edit_faults,
    largest_difference,
    magnitude,
    metadata_faults,
)

# Largest difference of logits, relative to the largest, between gates and folded gates: rounding.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2

# The metadata that tells of shifts.
SHIFTS = "shifts"
# And the claim that samples without labels were tuned on as well, by their digest.
UNLABELLED = "unlabelled.sha256"


def is_tuned(model: ModelProto) -> bool:
    """Tell whether a model says, or shows, that its gates were tuned."""
    return read_metadata(model).get("method") == "tuned" or has_gates(model)


def gated_sites(
    source: ModelProto, ending: Ending, layers: str, gates: str, emit: str, *, shifts: bool
) -> list[GateSite]:
    """Return the layers that a tuned file has gates on, with their shifts if it has any.

    Raises
    ------
    UsageError
        No layer matches.
    """
    sites = find_gate_sites(source, ending, by_position=gates == "position", shifts=shifts)
    sites = choose_sites(sites, layers)
    return [site for site in sites if site.foldable] if emit == "fold" else sites


def ending_of(source: ModelProto, ending: BareEnding, said: Mapping[str, str]) -> BareEnding:
    """Return where the gates of a file end, by how many its metadata says that there are.

    In front of the last layers once, whatever these put out.
    """
    if not {"emit", "gates", "layers"} <= {*said}:
        return ending
    for each in (ending, ending.before_layers):
        try:
            sites = _sites_said(source, each, said)
        except (ModelError, UsageError):
            continue
        total = sum(site.channels for site in sites if not site.adds)
        if str(total) == said.get("mask.total"):
            return each
    return ending


def folded_names(source: ModelProto, ending: Ending, said: Mapping[str, str]) -> list[str]:
    """Return the initializers that gates were folded into, by a file's metadata.

    None where the metadata can't be read, which :func:`gate_faults` has more to say of.
    """
    if said.get("emit") != "fold" or said.get("gates") != "channel" or "layers" not in said:
        return []
    try:
        sites = _sites_said(source, ending, said)
    except (ModelError, UsageError):
        return []
    return scaled_names(sites)


def scaled_names(sites: Sequence[GateSite]) -> list[str]:
    """Return the initializers of the source that folding changes."""
    return sorted({name for site in sites for name, _ in site.scaled})


def gate_faults(source: OnnxFile, hardened: ModelProto, ending: Ending) -> list[str]:
    """List every way in which ``hardened`` is not ``source`` with gates on its layers.

    Weights that gates were folded into have been read into both.
    """
    said = read_metadata(hardened)
    emit = said.get("emit")
    if emit not in ("mul", "fold"):
        return [f"metadata cloakify.emit says {emit!r}, not mul or fold"]
    if "layers" not in said:
        return ["metadata cloakify.layers, which says where gates are, is missing"]
    if said.get("gates") not in ("channel", "position"):
        return [f"metadata cloakify.gates says {said.get('gates')!r}, not channel or position"]
    try:
        sites = _sites_of(source.model, hardened, ending)
        gates = found_gates(source.model, hardened, sites)
        make = fold_gates if emit == "fold" else insert_gates
        again = make(source.model, sites, gates, said)
    except (ModelError, UsageError) as error:
        return [str(error)]
    faults = edit_faults(again, hardened)
    facts = {
        "source.sha256": source.sha256,
        "head": ending.node,
        "method": "tuned",
        **gate_facts(sites, gates, shifts=SHIFTS in said),
    }
    faults += metadata_faults(said, facts, ("emit", "gates", "layers", UNLABELLED))
    claimed = said.get(UNLABELLED)
    if claimed is not None and not re.fullmatch(CLAIMS["data.sha256"], claimed, re.ASCII):
        faults.append(f"metadata cloakify.{UNLABELLED} says {claimed!r}, as harden never does")
    pairs = zip(sites, gates, strict=True)
    if not all(np.isfinite(v).all() and (site.adds or v.min() >= 0) for site, v in pairs):
        faults.append("there are gates that are negative or not finite")
    return faults


def gate_facts(
    sites: Sequence[GateSite], gates: Sequence[NDArray[np.generic]], *, shifts: bool
) -> dict[str, str]:
    """Return the metadata that follows from gates: their digest and numbers.

    Parameters
    ----------
    sites, gates
        Gates and shifts of each site, [channels].
    shifts
        Whether shifts were asked for; the file tells how many there are then, and is silent else.
    """
    factors = [values for site, values in zip(sites, gates, strict=True) if not site.adds]
    removed = sum(int((values == 0).sum()) for values in factors)
    facts = {
        "mask.sha256": gates_digest(gates),
        "mask.removed": str(removed),
        "mask.total": str(sum(map(len, factors))),
    }
    if shifts:
        facts[SHIFTS] = str(sum(site.channels for site in sites if site.adds))
    return facts


def _sites_said(source: ModelProto, ending: Ending, said: Mapping[str, str]) -> list[GateSite]:
    """Return the gated layers by a file's metadata."""
    layers, gates, emit = said["layers"], said["gates"], said["emit"]
    return gated_sites(source, ending, layers, gates, emit, shifts=SHIFTS in said)


def _sites_of(source: ModelProto, hardened: ModelProto, ending: Ending) -> list[GateSite]:
    """Return those but for weightless ones that a file has no gates on: they had none once."""
    sites, gated = _sites_said(source, ending, read_metadata(hardened)), gated_outputs(hardened)
    return [site for site in sites if site.output in gated or not site.weightless]


def found_gates(
    source: ModelProto, hardened: ModelProto, sites: Sequence[GateSite]
) -> list[NDArray[np.generic]]:
    """Read the gates of these sites off a hardened model.

    Raises
    ------
    ModelError
        There are not as many as sites, or they can't be read.
    """
    if read_metadata(hardened).get("emit") == "fold":
        return list(recover_gates(source, hardened, sites))
    gates = read_gates(hardened)
    sizes = [len(values) for values in gates]
    if sizes != [site.channels for site in sites]:
        raise ModelError(
            f"the graph holds gates on {len(gates)} layers of {sizes} channels, "
            f"not on the {len(sites)} that the metadata speaks of"
        )
    return gates


def gate_runtime_faults(
    source: ModelProto,
    hardened: ModelProto,
    ending: Ending,
    feeds: Mapping[str, NDArray[np.generic]],
    device: Device,
) -> list[str]:
    """Run models on the same samples and list what does not agree.

    Gates of 1 (and shifts of 0) must give the source's logits to the bit, and the hardened file's
    logits must be those of the other form, gates for folded weights and folded weights for gates.

    Parameters
    ----------
    source, hardened
        Without structural faults, weights within them.
    feeds
        An array for each of their inputs.
    device
        Where to run them.
    """
    said = read_metadata(hardened)
    sites = _sites_of(source, hardened, ending)
    gates = found_gates(source, hardened, sites)

    def logits(model: ModelProto) -> NDArray[np.generic]:
        # Unoptimised: fusions may round otherwise, and would hide what the graph itself says.
        session = Session(tap(model, [ending.logits]), device, optimise=False)
        return session.run(feeds)[ending.logits]

    faults: list[str] = []
    # Added to −0.0, a shift of 0.0 would be felt.
    idle = [np.full(site.channels, -0.0 if site.adds else 1.0) for site in sites]
    ones = insert_gates(source, sites, idle, {})
    plain, neutral = logits(source), logits(ones)
    if plain.shape != neutral.shape or plain.tobytes() != neutral.tobytes():
        apart = largest_difference(plain, neutral)
        faults.append(f"with gates of 1 the logits differ from the source's by {apart:g}")
    other = insert_gates if said["emit"] == "fold" else fold_gates
    try:
        expected = logits(other(source, sites, gates, {}))
    except ModelError:
        # Not every layer's gates can be folded; those that stand in the graph need no such proof.
        return faults
    actual = logits(hardened)
    half = any(site.element_type in HALVES for site in sites)
    allowed = (HALF_TOLERANCE if half else TOLERANCE) * magnitude(expected)
    difference = largest_difference(actual, expected)
    if not difference <= allowed:
        faults.append(f"gates and folded weights differ in the logits by {difference:g}")
    return faults
