"""Files as `harden --method tuned` writes them, their gates drawn instead of tuned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto

from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.fold import fold_gates, settle_gates
from cloakify.graph.edit.gates import insert_gates
from cloakify.onnxfile import open_model
from cloakify.verification.gate_edit import gate_facts
from tests.support.hardening import made_from

# As nodes, folded into weights, and as nodes with a gate at every position.
FORMS = ("mul", "fold", "position")


def tuned(source: Path, form: str, seed: int = 0) -> ModelProto:
    """The source with random gates and shifts of every layer, as `harden` would write it."""
    file = open_model(source)
    head = find_head(file.model).head
    folds, generator = form == "fold", np.random.default_rng(seed)
    sites = find_gate_sites(file.model, head, shifts=True, by_position=form == "position")
    sites = [site for site in sites if site.foldable] if folds else sites
    drawn = [
        generator.normal(size=site.channels) * 0.1
        if site.adds
        else np.exp(generator.normal(size=site.channels) * 0.3)
        for site in sites
    ]
    drawn[0][3] = 0
    gates = settle_gates(file.model, sites, [each.astype(np.float32) for each in drawn])
    known = gate_facts(sites, gates, shifts=True)
    facts = {
        "method": "tuned", "emit": "fold" if folds else "mul", "layers": "all",
        "gates": "position" if form == "position" else "channel",
        **{key.replace(".", "_"): text for key, text in known.items()},
    }  # fmt: skip
    make = fold_gates if folds else insert_gates
    return make(file.model, sites, gates, made_from(file, head, **facts))
