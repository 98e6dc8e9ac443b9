"""Models whose answer no one layer makes: judged as a whole, tuned, and proven from two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.errors import HeadError, ModelError
from cloakify.experiment.outlook import Outlook
from cloakify.onnxfile import read_metadata
from cloakify.settings import AttackSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify

DEPTH, CLASSES, SAMPLES, EPS = 6, 3, 150, 0.1
MASKED = HardenSetting(
    max_accuracy_drop=0.9,
    evaluation_steps=3,
    device="cpu",
    eps=EPS,
    write_anyway=True,
    effort="quick",
)
TUNED = MASKED.replace(method="tuned", tune_steps=60)
MEMBERS = """h = MatMul (x, wh)  fh = Tanh (h)  zh = MatMul (fh, vh)
    g = MatMul (x, wg)  fg = Tanh (g)  zg = MatMul (fg, vg)"""
ENDINGS = {
    "soft vote": "p = Softmax <axis = 1> (zh)  q = Softmax <axis = 1> (zg)  y = Mean (p, q)",
    "mixed scores": "y = Add (zh, zg)",
    "gated": "p = Softmax <axis = 1> (zg)  y = Mul (zh, p)",
    "the larger": "y = Max (zh, zg)",
}


def members(ending: str) -> onnx.ModelProto:
    rng = np.random.default_rng(4)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, {DEPTH}] x) => (float[N, {CLASSES}] y) {{ {MEMBERS}  {ENDINGS[ending]} }}"""
    )
    for name, shape, size in (("w", (DEPTH, 8), 3.0), ("v", (8, CLASSES), 3.0)):
        for member in "hg":
            values = (rng.normal(size=shape) * size / np.sqrt(shape[0])).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name + member))
    return model


def written(folder: Path, ending: str) -> tuple[Path, Path]:
    """A model and samples that are labelled by its own answers."""
    model, data = folder / "model.onnx", folder / "data.npz"
    onnx.save(members(ending), model)
    x = np.random.default_rng(5).random((SAMPLES, DEPTH), np.float32)
    y = ort.InferenceSession(model).run(None, {"x": x})[0].argmax(axis=1)
    np.savez(data, x=x, y=y)
    return model, data


@pytest.mark.parametrize("ending", ENDINGS)
def test_gates_are_tuned_on_all_members_and_proven(tmp_path: Path, ending: str) -> None:
    model, data = written(tmp_path, ending)
    with pytest.raises(HeadError, match="--method tuned needs no one head"):
        harden(model, data, tmp_path / "masked.onnx", MASKED)
    assert not (tmp_path / "masked.onnx").exists()
    output, told = tmp_path / "tuned.onnx", list[Outlook]()
    result = harden(model, data, output, TUNED, told=told.append)
    assert [outlook.task.partition(",")[0] for outlook in told] == [
        "60 steps of 64 samples tune gates"
    ]
    assert result.report.accuracy.source.clean.value == 1
    said = read_metadata(onnx.load(output))
    # Eight channels of each member, each with its shift.
    assert (said["head"], said["mask.total"], said["shifts"]) == ("y", "16", "16")
    assert verify(output, model, "cpu").faults == ()
    tampered = onnx.load(output)
    weight = next(each for each in tampered.graph.initializer if each.name == "vg")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, "vg"))
    onnx.save(tampered, tmp_path / "tampered.onnx")
    assert verify(tmp_path / "tampered.onnx", model, "cpu").faults


def test_folded_gates_are_proven_as_well(tmp_path: Path) -> None:
    model, data = written(tmp_path, "soft vote")
    output = tmp_path / "tuned.onnx"
    harden(model, data, output, TUNED.replace(emit="fold"))
    assert verify(output, model, "cpu").faults == ()


def test_what_has_no_layer_to_tune_is_told_why(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, {DEPTH}] x) => (float[N, 2] y) <int64[1] one = {{1}}, int64[1] two = {{2}}>
        {{ p = Unsqueeze (x, one)  q = Sub (p, c)  r = Mul (q, q)
           d = ReduceSum <keepdims = 0> (r, two)  y = Neg (d) }}"""
    )
    centres = np.random.default_rng(0).random((1, 2, DEPTH), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(centres, "c"))
    onnx.save(model, tmp_path / "model.onnx")
    x = np.random.default_rng(1).random((60, DEPTH), np.float32)
    y = np.square(x[:, None] - centres).sum(axis=2).argmin(axis=1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    with pytest.raises(ModelError, match=r"no linear layer.*no layer with channels to tune"):
        harden(tmp_path / "model.onnx", tmp_path / "data.npz", None, TUNED)


def test_crops_in_the_batch_are_no_features_for_a_mask(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 4, {DEPTH}] x) => (float[N, {CLASSES}] y)
        <int64[2] rows = {{-1, {DEPTH}}}, int64[3] crops = {{-1, 4, {CLASSES}}}>
        {{ r = Reshape (x, rows)  h = Relu (r)  z = MatMul (h, w)  t = Reshape (z, crops)
           y = ReduceMean <axes = [1], keepdims = 0> (t) }}"""
    )
    weight = np.random.default_rng(1).normal(size=(DEPTH, CLASSES)).astype(np.float32)
    weight -= weight.mean(axis=0)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    path, data = tmp_path / "model.onnx", tmp_path / "data.npz"
    onnx.save(model, path)
    x = np.random.default_rng(2).random((SAMPLES, 4, DEPTH), np.float32)
    y = (x @ weight).mean(axis=1).argmax(axis=1)
    np.savez(data, x=x, y=y)
    with pytest.raises(ModelError, match="crops that are folded into the batch"):
        harden(path, data, None, MASKED)
    setting = AttackSetting(attack="fgsm", eps=EPS, device="cpu")
    result = attack(path, data, tmp_path / "adversarial.npz", setting)
    adversarial = np.load(tmp_path / "adversarial.npz")["x"]
    assert result.clean.value == 1
    moved = (adversarial @ weight).mean(axis=1).argmax(axis=1)
    assert result.attacked.value == pytest.approx((moved == y).mean())
