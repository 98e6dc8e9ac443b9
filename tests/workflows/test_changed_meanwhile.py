"""What is changed on disk during a run: no figure and no file comes of half of either."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.errors import DataError, ModelError
from cloakify.onnxfile import open_model, read_metadata, save_model
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from tests.workflows.test_sidecars import beside

COMMON = {"limit": 60, "device": "cpu", "eps": 4 / 255}
Progress = Callable[[str, int, int], None]


def run(verb: str, model: Path, data: Path, out: Path, progress: Progress) -> None:
    if verb == "harden":
        setting = HardenSetting(
            **COMMON, mask_ratio=0.1, score="deepcloak", evaluation_steps=1, effort="quick"
        )
        harden(model, data, out / "h.onnx", setting, progress)
    elif verb == "evaluate":
        setting = EvaluateSetting(**{**COMMON, "eps": (4 / 255,)}, attack="fgsm", effort="quick")
        evaluate(model, data, setting, progress)
    else:
        attack(model, data, out / "a.npz", AttackSetting(**COMMON, steps=1), progress)


def other_weights(path: Path) -> None:
    """Write the model anew, with one number changed, as an exporter does."""
    message = onnx.load(path)
    tensor = max(message.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    path.write_bytes(message.SerializeToString())


def other_sidecar(path: Path) -> None:
    """Change a byte of the weights beside a model."""
    sidecar = path.with_suffix(".data")
    message = onnx.load(path, load_external_data=False)
    largest = max(message.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    (begin,) = (int(e.value) for e in largest.external_data if e.key == "offset")
    content = bytearray(sidecar.read_bytes())
    content[begin] ^= 1
    sidecar.write_bytes(content)


@pytest.mark.parametrize("verb", ["harden", "evaluate", "attack"])
@pytest.mark.parametrize("what", ["model", "sidecar", "data"])
def test_what_was_changed_is_refused(samples: Path, tmp_path: Path, verb: str, what: str) -> None:
    model, data = tmp_path / "model.onnx", tmp_path / "data.npz"
    shutil.copy(samples / "fashion_keras.onnx", model)
    if what == "sidecar":
        beside(onnx.load(model), model)
    with np.load(samples / "test.npz") as arrays:
        held = {name: arrays[name][:60] for name in arrays.files}
    np.savez(data, **held)
    out = tmp_path / "out"
    out.mkdir()
    done = False

    def change(stage: str, at: int, total: int) -> None:
        nonlocal done
        if done:
            return
        done = True
        if what == "data":
            held["x"][:, 0, 0, 0] = 0.25
            np.savez(data, **held)
        else:
            (other_sidecar if what == "sidecar" else other_weights)(model)

    error = DataError if what == "data" else ModelError
    with pytest.raises(error, match="was changed while it was in use; run it again"):
        run(verb, model, data, out, change)
    assert done and not list(out.iterdir())


def test_to_be_touched_is_not_to_be_changed(samples: Path, tmp_path: Path) -> None:
    """A copy of the same in a model's place, as by a sync, stops nothing."""
    model = tmp_path / "model.onnx"
    shutil.copy(samples / "fashion_keras.onnx", model)
    out = tmp_path / "out"
    out.mkdir()

    def touch(stage: str, at: int, total: int) -> None:
        again = tmp_path / "again"
        shutil.copy(model, again)
        again.replace(model)

    run("harden", model, samples / "calib", out, touch)
    said = read_metadata(open_model(out / "h.onnx").model)
    assert said["source.sha256"] == open_model(model).sha256


def test_a_digest_is_of_what_was_read_and_of_what_was_written(
    samples: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    shutil.copy(samples / "fashion_keras.onnx", model)
    file = open_model(model)
    before = file.sha256
    written = save_model(file.model, tmp_path / "out.onnx", file)
    assert written.hex() == open_model(tmp_path / "out.onnx").sha256
    other_weights(model)
    assert file.sha256 == before != open_model(model).sha256
    with pytest.raises(ModelError, match="was changed while it was in use"):
        save_model(file.model, tmp_path / "later.onnx", file)
    assert not (tmp_path / "later.onnx").exists()
