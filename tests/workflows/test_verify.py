"""`verify` accepts what `harden` wrote, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakify.cli.main import run
from cloakify.errors import ModelError
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.gates import gates_digest, insert_gates
from cloakify.graph.edit.mask import MASK, insert_mask, mask_digest
from cloakify.onnxfile import open_model
from cloakify.runtime import Device, Session
from cloakify.workflows.verify import verify
from tests.golden.make import TINY
from tests.support.hardening import made_from

KEPT = TINY.parent / "v0.1.0"


@pytest.fixture(scope="module")
def pair(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sample model and its copy with a mask."""
    source = samples / "fashion_pooled.onnx"
    file = open_model(source)
    head = find_head(file.model).head
    mask = np.ones(head.num_features)
    mask[[3, 14, 15]] = 0
    metadata = made_from(
        file,
        head,
        mask_sha256=mask_digest(mask),
        mask_removed="3",
        mask_total=str(head.num_features),
    )
    hardened = tmp_path_factory.mktemp("pair") / "hardened.onnx"
    hardened.write_bytes(insert_mask(file.model, head, mask, metadata).SerializeToString())
    return source, hardened


def test_a_hardened_file_is_proven(pair: tuple[Path, Path]) -> None:
    source, hardened = pair
    result = verify(hardened, source, "cpu")
    assert result.faults == ()
    assert "3 of 64" in result.summary
    assert result.to_dict()["verified"] is True


@pytest.mark.parametrize("name", ["tiny-ratio", "tiny-channel-mul", "tiny-channel-fold"])
def test_everything_runs_on_the_device_that_was_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, used = Device("cpu"), []

    class Seen(Session):
        def __init__(self, model: Any, device: Device, **how: Any) -> None:
            used.append(device)
            super().__init__(model, device, **how)

    monkeypatch.setattr("cloakify.workflows.verify.resolve_device", lambda *_: asked)
    for place in ("workflows.verify", "verification.mask_edit", "verification.gate_edit"):
        monkeypatch.setattr(f"cloakify.{place}.Session", Seen)
    assert verify(KEPT / f"{name}.onnx", TINY, "cuda").faults == ()
    assert len(used) >= 4 and all(device is asked for device in used)


@pytest.mark.parametrize("which", ["source", "hardened"])
def test_a_file_is_not_itself_hardened(
    pair: tuple[Path, Path], tmp_path: Path, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dict(zip(("source", "hardened"), pair, strict=True))[which]
    for other in (tmp_path / "equal.onnx", tmp_path / "link.onnx", path):
        if other.name == "equal.onnx":
            shutil.copy(path, other)
        elif other is not path:
            other.symlink_to(path)
        (fault,) = verify(other, path, "cpu").faults
        assert ("both files are equal" if other.name == "equal.onnx" else "the same file") in fault
        assert run(["verify", str(other), "--against", str(path), "--device", "cpu"]) == 1
        assert fault in capsys.readouterr().out


def test_another_source_is_said_first(pair: tuple[Path, Path], samples: Path) -> None:
    """Its architecture is the same, so every weight differs as well."""
    _, hardened = pair
    faults = verify(hardened, samples / "fashion_robust.onnx", "cpu").faults
    assert "made from another file" in faults[0] and len(faults) > 2


def weights_of(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in model.graph.initializer if t.raw_data and t.name != MASK]


def flip_weight(model: onnx.ModelProto, place: int) -> None:
    tensors = weights_of(model)
    tensor = tensors[place % len(tensors)]
    data = bytearray(tensor.raw_data)
    data[place % len(data)] ^= 1
    tensor.raw_data = bytes(data)


def flip_mask(model: onnx.ModelProto, place: int) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == MASK)
    values = onnx.numpy_helper.to_array(tensor).copy().reshape(-1)
    values[place % len(values)] = 1 - values[place % len(values)]
    shape = tuple(tensor.dims)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.reshape(shape), MASK))


def change_attribute(model: onnx.ModelProto, place: int) -> None:
    nodes = [n for n in model.graph.node if any(a.ints for a in n.attribute)]
    node = nodes[place % len(nodes)]
    attribute = next(a for a in node.attribute if a.ints)
    attribute.ints[place % len(attribute.ints)] += 1


def drop_metadata(model: onnx.ModelProto, place: int) -> None:
    del model.metadata_props[place % len(model.metadata_props)]


def swap_nodes(model: onnx.ModelProto, place: int) -> None:
    nodes = list(model.graph.node)
    first = place % (len(nodes) - 1)
    nodes[first], nodes[first + 1] = nodes[first + 1], nodes[first]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def add_doc(model: onnx.ModelProto, place: int) -> None:
    model.graph.node[place % len(model.graph.node)].doc_string += "changed"


def add_claim(model: onnx.ModelProto, place: int) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = f"cloakify.certified.{place}", "true"


def turn_mask(model: onnx.ModelProto, place: int) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == MASK)
    tensor.dims[:] = [(1, 64), (64, 1), (1, 1, 64), (1, 64, 1)][place % 4]


def say_twice(model: onnx.ModelProto, place: int) -> None:
    """Readers differ in which of two entries they take; the last of them is the truth here."""
    said = [e for e in model.metadata_props if e.key.startswith("cloakify.")]
    entry = said[place % len(said)]
    model.metadata_props.add().CopyFrom(entry)
    entry.value = "0"


CHANGES: list[Callable[[onnx.ModelProto, int], None]] = [
    flip_weight,
    flip_mask,
    change_attribute,
    drop_metadata,
    swap_nodes,
    add_doc,
    add_claim,
    turn_mask,
    say_twice,
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from(CHANGES), place=st.integers(0, 100_000))
def test_every_other_change_is_named(
    pair: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[onnx.ModelProto, int], None],
    place: int,
) -> None:
    source, hardened = pair
    model = onnx.load(hardened)
    before = model.SerializeToString()
    change(model, place)
    assert model.SerializeToString() != before
    tampered = tmp_path / "tampered.onnx"
    tampered.write_bytes(model.SerializeToString())
    try:
        faults = verify(tampered, source, "cpu").faults
    except ModelError as error:
        # Nodes that read what a later one makes are no model to compare.
        assert change is swap_nodes
        faults = (str(error),)
    assert faults and all("\n" not in fault for fault in faults)


@pytest.mark.parametrize(
    ("key", "value"),
    [("eps", "half"), ("eps", "-1"), ("seed", "0.5"), ("data.sha256", "ab"), ("attack", "")],
)
def test_entries_that_harden_never_writes_are_named(
    pair: tuple[Path, Path], tmp_path: Path, key: str, value: str
) -> None:
    """What two files can't prove has a form at least."""
    source, hardened = pair
    model = onnx.load(hardened)
    (entry,) = (e for e in model.metadata_props if e.key == f"cloakify.{key}")
    entry.value = value
    tampered = tmp_path / "tampered.onnx"
    tampered.write_bytes(model.SerializeToString())
    (fault,) = verify(tampered, source, "cpu").faults
    assert key in fault and repr(value) in fault


def test_gates_without_the_entries_that_place_them_are_not_proven(
    samples: Path, tmp_path: Path
) -> None:
    source = samples / "fashion_pooled.onnx"
    file = open_model(source)
    head = find_head(file.model).head
    sites = find_gate_sites(file.model, head)
    gates = [np.full(site.channels, 0.5, np.float32) for site in sites]
    count = sum(site.channels for site in sites)
    metadata = made_from(
        file,
        head,
        method="tuned",
        emit="mul",
        layers="all",
        gates="channel",
        mask_sha256=gates_digest(gates),
        mask_removed="0",
        mask_total=str(count),
    )
    hardened = tmp_path / "tuned.onnx"
    for missing, faults in ((None, 0), ("layers", 1), ("gates", 1), ("emit", 1)):
        said = {key: value for key, value in metadata.items() if key != missing}
        model = insert_gates(file.model, sites, gates, said)
        hardened.write_bytes(model.SerializeToString())
        assert len(verify(hardened, source, "cpu").faults) == faults


TEXT = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
f ({inputs}) => (float[N, 3] y)
{{
    h = MatMul (x, v)  p = Relu (h)  y = MatMul (p, w)
}}"""


def small_pair(folder: Path, source: onnx.ModelProto) -> tuple[Path, onnx.ModelProto]:
    """Write a source with random weights; return it and its copy with a mask."""
    add_weights(source, 5)
    return masked_pair(folder, source)


def add_weights(source: onnx.ModelProto, size: int) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("v", (size, 6)), ("w", (6, 3))):
        values = rng.standard_normal(shape).astype(np.float32)
        source.graph.initializer.append(onnx.numpy_helper.from_array(values, name))


def masked_pair(folder: Path, source: onnx.ModelProto) -> tuple[Path, onnx.ModelProto]:
    """Write a source whose head has six features; return it and its copy with a mask."""
    path = folder / "source.onnx"
    path.write_bytes(source.SerializeToString())
    file = open_model(path)
    head = find_head(file.outline).head
    mask = np.array([1, 0, 1, 1, 0, 1], np.float32)
    metadata = made_from(
        file, head, mask_sha256=mask_digest(mask), mask_removed="2", mask_total="6"
    )
    return path, insert_mask(file.model, head, mask, metadata)


def faults_of(model: onnx.ModelProto, source: Path) -> tuple[str, ...]:
    hardened = source.with_name("hardened.onnx")
    hardened.write_bytes(model.SerializeToString())
    return verify(hardened, source, "cpu").faults


@pytest.mark.parametrize("shape", [(6, 1), (1, 6), (1, 1, 6)])
def test_a_mask_that_lies_along_the_samples(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """As many samples as features: it fits along either, and every shape has the same bytes."""
    text = TEXT.format(ir=8, opset=17, inputs="float[6, 5] x")
    source, hardened = small_pair(tmp_path, onnx.parser.parse_model(text))
    assert faults_of(hardened, source) == ()
    (tensor,) = (t for t in hardened.graph.initializer if t.name == MASK)
    tensor.dims[:] = shape
    assert any(MASK in fault for fault in faults_of(hardened, source))


def test_the_order_of_inputs_is_proven(tmp_path: Path) -> None:
    """Until IR version 4 the mask is an input too; what feeds by position must not meet it."""
    text = TEXT.format(ir=3, opset=9, inputs="float[N, 5] x, float[5, 6] v, float[6, 3] w")
    source, hardened = small_pair(tmp_path, onnx.parser.parse_model(text))
    assert faults_of(hardened, source) == ()
    inputs = list(hardened.graph.input)
    del hardened.graph.input[:]
    hardened.graph.input.extend([inputs[-1], *inputs[:-1]])
    assert faults_of(hardened, source)


@pytest.mark.parametrize(("height", "width", "tried"), [(28, 28, True), (3, 5, False)])
def test_sizes_that_the_declaration_does_not_tell(
    tmp_path: Path, height: int, width: int, tried: bool
) -> None:
    """Behind its symbolic axes a model may take one size only, which a proof has to find."""
    source = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> f (float[N, 1, h, w] x) => (float[N, 3] y) '
        "{ f = Flatten (x)  h = MatMul (f, v)  p = Relu (h)  y = MatMul (p, w) }"
    )
    add_weights(source, height * width)
    path, hardened = masked_pair(tmp_path, source)
    assert faults_of(hardened, path) == ()
    assert bool(verify(path.with_name("hardened.onnx"), path, "cpu").remarks) is not tried
