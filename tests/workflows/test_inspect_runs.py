"""Inspect says where ONNX Runtime does not open a model, and says nothing where it does."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from cloakify.cli.main import cli
from cloakify.ort import ORT_ERRORS
from cloakify.workflows.inspect import inspect

TEXT = """<ir_version: %d, opset_import: ["" : %d]> f (float[N, 3] x) => (float[N, 2] y)
<float[3, 2] w = {1, 2, 3, 4, 5, 6}> {
    [first] h = Relu (x)
    [%s] y = MatMul (h, w)
}"""
MODELS = {
    "fine": (8, 18, "second"),
    "names twice": (8, 18, "first"),
    "newer than the runtime": (8, 99, "second"),
    "of a newer format": (99, 18, "second"),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_the_runtime_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(TEXT % MODELS[name]).SerializeToString())
    try:
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        refused = False
    except ORT_ERRORS:
        refused = True
    assert refused == (name != "fine")
    told = inspect(path)
    assert (told.unrunnable is not None) == refused
    assert told.to_dict()["unrunnable"] == told.unrunnable
    shown = CliRunner().invoke(cli, ["inspect", str(path)])
    assert shown.exit_code == 0
    assert ("runs        not: ONNX Runtime refuses" in shown.stdout) == refused
    document = json.loads(CliRunner().invoke(cli, ["inspect", str(path), "--json"]).stdout)
    assert document["unrunnable"] == told.unrunnable
