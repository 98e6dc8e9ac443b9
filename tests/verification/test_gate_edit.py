"""The proof of tuned files: what harden writes has no faults, and any change of it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from cloakify.graph.analysis.gate_sites import GateSite
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.fold import fold_gates, settle_gates
from cloakify.graph.edit.gates import insert_gates
from cloakify.onnxfile import OnnxFile, open_model
from cloakify.runtime import Device
from cloakify.verification.gate_edit import (
    folded_names,
    found_gates,
    gate_facts,
    gate_faults,
    gate_runtime_faults,
    gated_sites,
    is_tuned,
)
from tests.support.gate_models import CNN, TRANSFORMER, filled

CPU = Device("cpu")
forms = pytest.mark.parametrize("emit", ["mul", "fold"])
with_shifts = pytest.mark.parametrize("shifts", [False, True])
models = pytest.mark.parametrize("text", [CNN, TRANSFORMER], ids=["cnn", "transformer"])


@dataclass(frozen=True)
class Tuned:
    """A source, what was made of it, and its metadata."""

    source: OnnxFile
    head: Head
    hardened: ModelProto
    said: Mapping[str, str]
    feeds: Mapping[str, np.ndarray]
    sites: list[GateSite]

    def faults(self, **said: str | None) -> list[str]:
        """Prove it with some entries of the metadata changed or gone."""
        changed = ModelProto()
        changed.CopyFrom(self.hardened)
        for key, value in said.items():
            (entry,) = (e for e in changed.metadata_props if e.key == f"cloakify.{key}")
            if value is None:
                changed.metadata_props.remove(entry)
            else:
                entry.value = value
        return gate_faults(self.source, changed, self.head)

    def runtime_faults(self, hardened: ModelProto | None = None) -> list[str]:
        model = self.hardened if hardened is None else hardened
        return gate_runtime_faults(self.source.model, model, self.head, self.feeds, CPU)


def tuned(
    folder: Path,
    text: str,
    emit: str,
    seed: int = 0,
    layers: str = "all",
    shifts: bool = False,
) -> Tuned:
    path = folder / "source.onnx"
    path.write_bytes(filled(text).SerializeToString())
    source = open_model(path)
    head = find_head(source.model).head
    sites = gated_sites(source.model, head, layers, "channel", emit, shifts=shifts)
    rng = np.random.default_rng(seed)
    gates = [rng.uniform(0.5, 1.5, site.channels) for site in sites]
    gates[0][0] = 0
    settled = settle_gates(source.model, sites, gates)
    said = {
        "version": "0.1.0",
        "source.sha256": source.sha256,
        "head": head.node,
        "attack": "fgsm",
        "eps": "0.03",
        "seed": "0",
        "data.sha256": "0" * 64,
        "method": "tuned",
        "emit": emit,
        "layers": layers,
        "gates": "channel",
        **gate_facts(sites, settled, shifts=shifts),
    }
    make = fold_gates if emit == "fold" else insert_gates
    shape = (4, 3, 6, 6) if text is CNN else (4, 5, 4)
    feeds = {"x": rng.standard_normal(shape).astype(np.float32)}
    return Tuned(source, head, make(source.model, sites, settled, said), said, feeds, sites)


@forms
@models
@with_shifts
@pytest.mark.parametrize("seed", range(3))
def test_what_was_written_is_proven(
    tmp_path: Path, text: str, emit: str, seed: int, shifts: bool
) -> None:
    made = tuned(tmp_path, text, emit, seed, shifts=shifts)
    assert is_tuned(made.hardened)
    assert gate_faults(made.source, made.hardened, made.head) == []
    assert made.runtime_faults() == []


@forms
@models
@with_shifts
def test_any_other_number_is_a_fault(tmp_path: Path, text: str, emit: str, shifts: bool) -> None:
    made = tuned(tmp_path, text, emit, shifts=shifts)
    names = [tensor.name for tensor in made.hardened.graph.initializer]
    for name in names:
        changed = ModelProto()
        changed.CopyFrom(made.hardened)
        (tensor,) = (tensor for tensor in changed.graph.initializer if tensor.name == name)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[-1] = values.flat[-1] * 1.01 + 0.01
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
        assert gate_faults(made.source, changed, made.head), name


@forms
@pytest.mark.parametrize("key", ["emit", "layers", "gates", "method", "head", "mask.total"])
def test_metadata_that_is_gone_or_false_is_a_fault(tmp_path: Path, emit: str, key: str) -> None:
    made = tuned(tmp_path, CNN, emit)
    assert made.faults() == []
    for value in (None, "other"):
        faults = made.faults(**{key: value})
        assert faults, value
        assert any(key in fault or "layer" in fault for fault in faults), faults


@forms
def test_shifts_are_told_of(tmp_path: Path, emit: str) -> None:
    made = tuned(tmp_path, CNN, emit, shifts=True)
    assert (made.said["shifts"], made.said["mask.total"]) == ("13", "13")
    (fault,) = made.faults(shifts="12")
    assert "cloakify.shifts says '12', found '13'" in fault
    assert made.faults(shifts=None)
    plain = tuned(tmp_path, CNN, emit)
    plain.hardened.metadata_props.add(key="cloakify.shifts", value="13")
    assert plain.faults()


@forms
@pytest.mark.parametrize("key", ["source.sha256", "mask.sha256", "mask.removed", "data.sha256"])
def test_facts_that_are_false_are_named(tmp_path: Path, emit: str, key: str) -> None:
    made = tuned(tmp_path, CNN, emit)
    (fault,) = made.faults(**{key: "12"})
    assert key in fault


def test_some_layers_alone(tmp_path: Path) -> None:
    made = tuned(tmp_path, CNN, "mul", layers="last")
    assert gate_faults(made.source, made.hardened, made.head) == []
    assert made.runtime_faults() == []
    (fault,) = made.faults(layers="all")
    assert "the graph holds gates on" in fault


def test_files_from_before_recurrent_layers_had_gates(tmp_path: Path) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N,4,5] x, float[6,4,1] k, float[1,8,6] W, float[1,8,8] R, float[8,3] h)
            => (float[N,3] y)
        {
            a = Conv (x, k)
            t = Transpose <perm = [2, 0, 1]> (a)
            o, s = RNN <hidden_size = 8> (t, W, R)
            first = Constant <value_ints = [0]> ()
            f = Squeeze (s, first)
            y = MatMul (f, h)
        }
    """
    made = tuned(tmp_path, text, "mul", shifts=True)
    assert [site.op_type for site in made.sites] == ["Conv", "Conv", "RNN", "RNN"]

    def faults(sites: list[GateSite]) -> list[str]:
        gates = [np.full(site.channels, 0.5) for site in sites]
        said = {**made.said, **gate_facts(sites, gates, shifts=True)}
        file = insert_gates(made.source.model, sites, gates, said)
        return gate_faults(made.source, file, made.head)

    assert faults(made.sites[:2]) == []
    # Layers that always had gates must have some.
    (fault,) = faults(made.sites[2:])
    assert "the graph holds gates on" in fault


def test_folding_touches_what_it_says(tmp_path: Path) -> None:
    made = tuned(tmp_path, CNN, "fold")
    names = folded_names(made.source.model, made.head, made.said)
    before, after = (
        {tensor.name: tensor.SerializeToString() for tensor in model.graph.initializer}
        for model in (made.source.model, made.hardened)
    )
    assert names == sorted(name for name in before if before[name] != after[name])
    for key, value in (("emit", "mul"), ("gates", "position"), ("layers", "none of them")):
        assert folded_names(made.source.model, made.head, {**made.said, key: value}) == []
    left = {key: value for key, value in made.said.items() if key != "layers"}
    assert folded_names(made.source.model, made.head, left) == []


@pytest.mark.parametrize(("text", "emit"), [(CNN, "mul"), (CNN, "fold"), (TRANSFORMER, "fold")])
def test_running_shows_what_is_computed(tmp_path: Path, text: str, emit: str) -> None:
    """Whatever the head is exchanged for shows in the logits, and rounding does not."""
    made = tuned(tmp_path, text, emit)
    for factor, seen in ((1 + 1e-6, False), (1.01, True)):
        changed = ModelProto()
        changed.CopyFrom(made.hardened)
        (weight,) = (t for t in changed.graph.initializer if t.name in ("w4", "wh"))
        values = onnx.numpy_helper.to_array(weight) * np.float32(factor)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        faults = made.runtime_faults(changed)
        assert bool(faults) == seen, (factor, faults)
        assert not seen or faults[0].startswith("gates and folded weights differ in the logits by")


@pytest.mark.parametrize("value", [-1e-6, -3.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("adds", [False, True])
def test_gates_are_at_least_0_and_all_are_numbers(tmp_path: Path, value: float, adds: bool) -> None:
    """Shifts may be of any sign."""
    made = tuned(tmp_path, CNN, "mul", shifts=True)
    sites = gated_sites(made.source.model, made.head, "all", "channel", "mul", shifts=True)
    gates = found_gates(made.source.model, made.hardened, sites)
    place = next(place for place, site in enumerate(sites) if site.adds == adds)
    gates[place] = gates[place].copy()
    gates[place][1] = value
    said = {**made.said, **gate_facts(sites, gates, shifts=True)}
    changed = insert_gates(made.source.model, sites, gates, said)
    faults = gate_faults(made.source, changed, made.head)
    unsound = not np.isfinite(value) or (value < 0 and not adds)
    assert faults == ["there are gates that are negative or not finite"] * unsound


@pytest.mark.parametrize("claimed", ["0" * 64, "0" * 63, "of my own", ""])
def test_a_claim_of_samples_without_labels_is_a_digest(tmp_path: Path, claimed: str) -> None:
    made = tuned(tmp_path, CNN, "mul")
    sites = gated_sites(made.source.model, made.head, "all", "channel", "mul", shifts=False)
    gates = found_gates(made.source.model, made.hardened, sites)
    said = {**made.said, "unlabelled.sha256": claimed}
    told = gate_faults(made.source, insert_gates(made.source.model, sites, gates, said), made.head)
    fault = f"metadata cloakify.unlabelled.sha256 says {claimed!r}, as harden never does"
    assert told == [fault] * (claimed != "0" * 64)
