"""Files that are no ONNX models are refused by what they are; models never are."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

import onnx
import pytest

from cloakify.errors import ModelError
from cloakify.onnxfile import open_model
from cloakify.onnxfile.other_formats import other_format

MODELS = sorted((Path(__file__).parents[2] / "sample_models").glob("*.onnx"))
MODEL = MODELS[0].read_bytes()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


FILES = {
    "pointer.onnx": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
        "git lfs pull",
    ),
    "model.ort": (b"\x18\0\0\0ORTM" + bytes(40), "Runtime's own format"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "Keras saves: export it"),
    "model.keras": (zipped("config.json", "model.weights.h5"), "Keras' own format"),
    "model.pt": (zipped("model/data.pkl", "model/version"), "torch.onnx.export"),
    "model.zip": (zipped("best.onnx"), "ZIP archive with 'best.onnx' in it: unpack"),
    "cut.zip": (zipped("best.onnx")[:20], "damaged ZIP"),
    "model.onnx.gz": (gzip.compress(MODEL), "gzip: unpack"),
    "model.pkl": (pickle.dumps({"a": 1}), "pickle"),
    "model.safetensors": (safetensors(), "safetensors"),
    "model.onnxtxt": (onnx.printer.to_text(onnx.load(MODELS[0])).encode(), "text format"),
    "page.onnx": (b"\n<!DOCTYPE html><html></html>", "web page"),
    "model.xml": (b'<?xml version="1.0"?><net name="a" version="11"></net>', "OpenVINO"),
    "model.json": (b'{"irVersion": "8"}', "JSON"),
    "empty.onnx": (b"", "empty file"),
    "model.bin": (b"\xff" * 40, "no ModelProto"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_refused_by_what_it_is(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not an ONNX model") as caught:
        open_model(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_models_are_taken_for_nothing_else(path: Path) -> None:
    assert other_format(path.read_bytes(), path.name) is None
