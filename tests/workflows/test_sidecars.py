"""Models whose every constant lies in a sidecar, axes and shapes too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.experiment.classifier import open_classifier
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import insert_mask, mask_digest
from cloakify.onnxfile import open_model, read_metadata, save_model, write_metadata
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden
from cloakify.workflows.inspect import inspect
from cloakify.workflows.verify import verify
from tests.support.fragile import EPS, write_fragile
from tests.support.gate_models import filled
from tests.support.hardening import made_from
from tests.support.tuned_files import tuned

# The answer is the mean of two layers' scores, which are put beside each other along axes that are
# inputs of the graph's nodes.
MIXED = """
<ir_version: 8, opset_import: ["" : 18]>
f (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4, 3] v = {3,1,2,6,4,5,9,7,8,2,1,3},
 int64[1] one = {1}>
{
    p = Relu (x)  q = Tanh (x)  g = MatMul (p, w)  h = MatMul (q, v)
    a = Unsqueeze (g, one)  b = Unsqueeze (h, one)  c = Concat <axis = 1> (a, b)
    y = ReduceMean <keepdims = 0> (c, one)
}"""


def beside(model: ModelProto, path: Path) -> Path:
    """Write a model with all its constants in a sidecar."""
    for tensor in model.graph.initializer:
        # Only raw data is put aside.
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
        )
    onnx.save_model(
        model, path, save_as_external_data=True, location=f"{path.stem}.data", size_threshold=0
    )
    return path


def test_the_graph_is_understood_as_if_they_lay_in_it(samples: Path, tmp_path: Path) -> None:
    for source in sorted(samples.glob("fashion_*.onnx")):
        apart = open_classifier(beside(onnx.load(source), tmp_path / source.name))
        whole = open_classifier(source)
        assert (apart.head, apart.entry) == (whole.head, whole.entry)
        for position in (False, True):
            found, expected = (
                find_gate_sites(one.file.outline, one.head, by_position=position)
                for one in (apart, whole)
            )
            assert found and found == expected
        assert whole.file.outline is whole.file.model


def test_layers_mixed_along_axes_from_a_sidecar(tmp_path: Path) -> None:
    path = beside(onnx.parser.parse_model(MIXED), tmp_path / "mixed.onnx")
    assert open_classifier(path, needs_head=False).head.logits == "y"
    assert inspect(path).coverage is not None
    file = open_model(path)
    outside = [tensor for tensor in file.outline.graph.initializer if tensor.data_location]
    assert [tensor.name for tensor in outside] == ["w", "v"]
    # What is edited and saved is the message as it was.
    assert all(tensor.data_location for tensor in file.model.graph.initializer)


def test_a_short_sidecar(tmp_path: Path) -> None:
    path = beside(onnx.parser.parse_model(MIXED), tmp_path / "mixed.onnx")
    sidecar = path.with_suffix(".data")
    sidecar.write_bytes(sidecar.read_bytes()[:3])
    with pytest.raises(ModelError, match="is it cut short"):
        open_classifier(path)


def test_the_same_mask_and_a_proof(samples: Path, tmp_path: Path) -> None:
    whole = samples / "fashion_keras.onnx"
    apart = beside(onnx.load(whole), tmp_path / "keras.onnx")
    setting = HardenSetting(
        limit=120,
        evaluation_steps=2,
        device="cpu",
        eps=4 / 255,
        score="deepcloak",
        write_anyway=True,
    )
    digests = []
    for place, source in enumerate((whole, apart)):
        folder = tmp_path / str(place)
        folder.mkdir()
        harden(source, samples / "calib", folder / "hardened.onnx", setting)
        assert verify(folder / "hardened.onnx", source).faults == ()
        digests.append(read_metadata(open_model(folder / "hardened.onnx").model)["mask.sha256"])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("place", ["beside", "elsewhere"])
def test_gates_folded_into_a_sidecar(tmp_path: Path, place: str) -> None:
    """The file is the one that weights in the message give, and proven; one byte more is not."""
    whole, data = write_fragile(tmp_path)
    apart = beside(onnx.load(whole), tmp_path / "apart.onnx")
    before = apart.with_suffix(".data").read_bytes()
    out = tmp_path if place == "beside" else tmp_path / "out"
    out.mkdir(exist_ok=True)
    setting = HardenSetting(
        method="tuned",
        emit="fold",
        tune_steps=60,
        max_accuracy_drop=0.2,
        evaluation_steps=2,
        device="cpu",
        eps=EPS,
        write_anyway=True,
    )
    found = {}
    for source in (whole, apart):
        hardened = out / f"{source.stem}.h.onnx"
        assert harden(source, data, hardened, setting).path == hardened
        assert verify(hardened, source, "cpu").faults == ()
        model = open_model(hardened).load_weights()
        found[source] = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, values in found[whole].items():
        np.testing.assert_array_equal(found[apart][name], values)
    assert not np.array_equal(found[apart]["w1"], np.eye(8, dtype=np.float32))
    assert apart.with_suffix(".data").read_bytes() == before
    (sidecar,) = (out / name for name in open_model(hardened).sidecars)
    for at in range(0, len(before), 64):
        changed = bytearray(sidecar.read_bytes())
        changed[at] ^= 1
        sidecar.write_bytes(changed)
        assert verify(hardened, apart, "cpu").faults
        changed[at] ^= 1
        sidecar.write_bytes(changed)


def test_a_model_of_the_hubs_cache(samples: Path, tmp_path: Path) -> None:
    """Links are followed, and what is written holds copies."""
    apart = beside(onnx.load(samples / "fashion_keras.onnx"), tmp_path / "model.onnx")
    snapshot, blobs = (tmp_path / "hub" / name for name in ("snapshots/0123abcd", "blobs"))
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate((apart, apart.with_suffix(".data"))):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    setting = HardenSetting(
        limit=80, evaluation_steps=2, device="cpu", score="deepcloak", mask_ratio=0.05
    )
    source = snapshot / "model.onnx"
    (tmp_path / "out").mkdir()
    for target in (None, tmp_path / "out" / "h.onnx"):
        written = harden(source, samples / "calib", target, setting).path
        assert written is not None and verify(written, source, "cpu").faults == ()
        onnx.checker.check_model(str(written))
        assert not any(file.is_symlink() for file in open_model(written).files)


def test_bytes_that_move_from_one_sidecar_to_the_next(tmp_path: Path) -> None:
    """A weight that no logit hangs on, so that only its bytes can tell."""
    text = """
    <ir_version: 8, opset_import: ["" : 18]>
    f (float[N, 2] x) => (float[N, 2] y, float[N, 2] other)
    <float[2, 2] a = {1, 2, 3, 5}, float[2] b = {7, 8}>
    { p = Relu (x)  y = MatMul (p, a)  other = Mul (p, b) }"""
    model = onnx.parser.parse_model(text)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        data = values.tobytes()
        onnx.external_data_helper.set_external_data(
            tensor, f"{tensor.name}.data", 0, length=len(data)
        )
        # What follows the weights belongs to nothing.
        (tmp_path / f"{tensor.name}.data").write_bytes(data + b"\x00" * 8)
        tensor.ClearField("raw_data")
    source = tmp_path / "source.onnx"
    source.write_bytes(model.SerializeToString())
    file = open_model(source)
    head = find_head(file.outline, "y").head
    mask = np.array([1.0, 0.0], np.float32)
    facts = made_from(file, head, mask_sha256=mask_digest(mask), mask_removed="1", mask_total="2")
    out = tmp_path / "out"
    out.mkdir()
    hardened = out / "hardened.onnx"
    save_model(insert_mask(file.model, head, mask, facts), hardened, file)
    assert verify(hardened, source, "cpu").faults == ()
    places = {
        tensor.name: out / tensor.external_data[0].value
        for tensor in open_model(hardened).model.graph.initializer
        if tensor.data_location
    }
    first, second = places["a"], places["b"]
    moved, rest = first.read_bytes(), second.read_bytes()
    first.write_bytes(moved[:16])
    second.write_bytes(moved[16:] + rest)
    found = verify(hardened, source, "cpu").faults
    assert found == tuple(f"the external weights in '{name}.data' differ" for name in "ab")


# `k` shows on samples that nobody tries.
SHARING = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4] x, float[4, 6] w, float[6] b, float[6] k, float[6, 3] v, float[3] c)
    => (float[N, 3] y)
<float t = {1000.0}>
{
    hidden = Gemm (x, w, b)
    active = Tanh (hidden)
    over = Sub (hidden, t)
    seldom = Relu (over)
    added = Mul (seldom, k)
    features = Add (active, added)
    y = Gemm (features, v, c)
}"""


@pytest.mark.parametrize("given", ["the source", "the hardened file", "both"])
@pytest.mark.parametrize("at", [0, 4])
def test_weights_that_share_the_bytes_of_edited_ones(tmp_path: Path, given: str, at: int) -> None:
    """What is edited for one weight is changed for the other, too: that is no mere set of gates."""
    whole = tmp_path / "whole.onnx"
    onnx.save(filled(SHARING), whole)
    source = beside(onnx.load(whole), tmp_path / "source.onnx")
    hardened = beside(tuned(whole, "fold"), tmp_path / "hardened.onnx")
    made_of(hardened, source)
    assert verify(hardened, source, "cpu").faults == ()
    if given != "the hardened file":
        share(source, at)
    if given != "the source":
        share(hardened, at)
    made_of(hardened, source)
    assert verify(hardened, source, "cpu").faults


def made_of(hardened: Path, source: Path) -> None:
    """Have a file say that it was made from that one."""
    message = onnx.load(hardened, load_external_data=False)
    write_metadata(message, {**read_metadata(message), "source.sha256": open_model(source).sha256})
    hardened.write_bytes(message.SerializeToString())


def share(path: Path, at: int) -> None:
    """Have `k` lie where `b` does, or so many bytes on, with the values that it finds there."""
    message = onnx.load(path, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in message.graph.initializer}
    said = {entry.key: entry for entry in tensors["k"].external_data}
    (begin,) = (int(e.value) for e in tensors["b"].external_data if e.key == "offset")
    said["offset"].value = str(begin + at)
    path.write_bytes(message.SerializeToString())
