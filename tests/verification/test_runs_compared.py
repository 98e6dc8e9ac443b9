"""What is compared by running, with sessions that round otherwise where they optimise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.fold import fold_gates, settle_gates
from cloakify.graph.edit.gates import insert_gates
from cloakify.graph.edit.mask import insert_mask
from cloakify.onnxfile.mapped import is_mapped, map_tensor
from cloakify.runtime import Device, Session
from cloakify.verification.gate_edit import (
    gate_facts,
    gate_runtime_faults,
    gated_sites,
    scaled_names,
)
from cloakify.verification.mask_edit import check_valid, runtime_faults
from tests.support.classifiers import mlp_classifier
from tests.support.gate_models import CNN, TRANSFORMER, filled

CPU = Device("cpu")
BITS = "with a mask of ones the logits are not the source's to the bit"


def rounding(monkeypatch: pytest.MonkeyPatch, module: str, otherwise: Mapping[bool, bool]) -> None:
    """Have sessions of models that were edited round otherwise, by whether they optimise."""

    class Rounding(Session):
        def __init__(self, model: ModelProto, device: Device, **how: Any) -> None:
            super().__init__(model, device, **how)
            edited = any(t.name.startswith("cloakify") for t in model.graph.initializer)
            self.off = edited and otherwise[how.get("optimise", True)]

        def run(self, feeds: Any, outputs: Any = None) -> Any:
            found = super().run(feeds, outputs)
            if not self.off:
                return found
            return {name: np.nextafter(values, np.inf) for name, values in found.items()}

    monkeypatch.setattr(f"cloakify.verification.{module}.Session", Rounding)


@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_a_mask_of_ones_is_one_where_either_way_of_running_says_so(
    monkeypatch: pytest.MonkeyPatch, optimised: bool, plain: bool
) -> None:
    """What is fused rounds otherwise, where it is told to be."""
    source = mlp_classifier(0, features=6, classes=3, width=8)
    head, x = find_head(source).head, np.random.default_rng(0).random((5, 6), np.float32)
    hardened = insert_mask(source, head, np.arange(8.0) % 2, {})
    rounding(monkeypatch, "mask_edit", {True: optimised, False: plain})
    found = runtime_faults(source, hardened, head, {"x": x}, CPU)
    assert found == ([BITS] if optimised and plain else [])


def test_gates_are_compared_as_the_graph_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    source = filled(CNN)
    head = find_head(source).head
    sites = find_gate_sites(source, head)
    said = {"method": "tuned", "emit": "mul", "layers": "all", "gates": "channel"}
    hardened = insert_gates(source, sites, [np.ones(site.channels) for site in sites], said)
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)}
    rounding(monkeypatch, "gate_edit", {True: True, False: False})
    assert gate_runtime_faults(source, hardened, head, feeds, CPU) == []
    rounding(monkeypatch, "gate_edit", {True: False, False: True})
    (fault,) = gate_runtime_faults(source, hardened, head, feeds, CPU)
    assert fault.startswith("with gates of 1 the logits differ from the source's by ")


@pytest.mark.parametrize("emit", ["mul", "fold"])
def test_gates_are_proven_by_folded_weights_and_these_by_gates(
    monkeypatch: pytest.MonkeyPatch, emit: str
) -> None:
    """Where the other form says otherwise, one of the two is not what it should be."""
    source = filled(CNN)
    head = find_head(source).head
    sites = gated_sites(source, head, "all", "channel", emit, shifts=False)
    said = {"method": "tuned", "emit": emit, "layers": "all", "gates": "channel"}
    rng = np.random.default_rng(0)
    gates = settle_gates(source, sites, [rng.uniform(0.5, 1.5, s.channels) for s in sites])
    forms = {"fold": fold_gates, "mul": insert_gates}
    hardened = forms[emit](source, sites, gates, said)
    feeds = {"x": rng.standard_normal((4, 3, 6, 6)).astype(np.float32)}
    assert gate_runtime_faults(source, hardened, head, feeds, CPU) == []
    for other in forms:

        def wrong(
            model: ModelProto, where: Any, values: Any, kept: Any, form: str = other
        ) -> ModelProto:
            # Gates of 1 stay what they are.
            factor = 1 if all((each == 1).all() for each in values) else 1.1
            return forms[form](model, where, [each * factor for each in values], kept)

        with monkeypatch.context() as patch:
            name = {"fold": "fold_gates", "mul": "insert_gates"}[other]
            patch.setattr(f"cloakify.verification.gate_edit.{name}", wrong)
            faults = gate_runtime_faults(source, hardened, head, feeds, CPU)
        assert len(faults) == (other != emit)
        assert all(fault.startswith("gates and folded weights differ") for fault in faults)


@given(st.sampled_from([CNN, TRANSFORMER]), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_facts_are_counts_of_the_gates(text: str, has_shifts: bool, told: bool, seed: int) -> None:
    """Gates of 0 are removed features; shifts are counted by themselves, where they are told of."""
    source, rng = filled(text), np.random.default_rng(seed)
    sites = find_gate_sites(source, find_head(source).head, shifts=has_shifts)
    gates = [rng.choice([-1, 0, 0.5, 1, 2], site.channels) for site in sites]
    facts = gate_facts(sites, gates, shifts=told)
    factors = [
        number for site, own in zip(sites, gates, strict=True) if not site.adds for number in own
    ]
    assert facts["mask.removed"] == str(factors.count(0))
    assert facts["mask.total"] == str(len(factors))
    count = sum(len(own) for site, own in zip(sites, gates, strict=True) if site.adds)
    assert facts.get("shifts") == (str(count) if told else None)
    other = [own.copy() for own in gates]
    other[seed % len(sites)][-1] += 1
    again = gate_facts(sites, other, shifts=told)
    assert again["mask.sha256"] != facts["mask.sha256"]


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("shifts", [False, True])
def test_sites_are_those_that_were_asked_for(by_position: bool, shifts: bool) -> None:
    source = filled(CNN)
    head = find_head(source).head
    found = find_gate_sites(source, head, by_position=by_position, shifts=shifts)
    gates = "position" if by_position else "channel"
    for layers in ("all", "last"):
        written = gated_sites(source, head, layers, gates, "mul", shifts=shifts)
        outputs = {site.output for site in written}
        assert written == [site for site in found if site.output in outputs]
        assert len(outputs) == (1 if layers == "last" else len({site.output for site in found}))
        folded = gated_sites(source, head, layers, gates, "fold", shifts=shifts)
        assert folded == [site for site in written if site.foldable]
    weights = {tensor.name for tensor in source.graph.initializer}
    assert set(scaled_names(folded)) <= weights
    assert sorted(scaled_names(folded)) == scaled_names(folded)


def test_the_checker_is_not_asked_of_weights_that_were_laid_aside(tmp_path: Path) -> None:
    """It would look for their sidecars, and hold another copy of them."""
    source, model = filled(CNN), filled(CNN)
    assert check_valid(source, model, "m.onnx") is None
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match=r"m\.onnx does not pass onnx's checker"):
        check_valid(source, model, "m.onnx")
    tensor = model.graph.initializer[0]
    (tmp_path / "weights").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "weights", offset=0)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    map_tensor(tensor, tmp_path / "weights")
    assert is_mapped(tensor)
    assert check_valid(source, model, "m.onnx") is None
