"""`--device openvino` answers and judges as the CPU does, where onnxruntime-openvino is installed.

``pytest -m compat tests/compat/test_openvino.py`` in a virtual environment that has
``onnxruntime-openvino`` in the place of ``onnxruntime-gpu``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from cloakify.cli.main import run
from cloakify.runtime import Session, resolve_device

SAMPLES = Path(__file__).parents[2] / "sample_models"

pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(
        "OpenVINOExecutionProvider" not in ort.get_available_providers(),
        reason="onnxruntime-openvino is not installed",
    ),
]


@pytest.mark.parametrize("model", ["fashion_pooled", "fashion_keras"])
def test_the_shipped_graph_gives_the_same_logits(model: str) -> None:
    with np.load(SAMPLES / "test.npz", allow_pickle=False) as arrays:
        x = arrays["x"][:64]
    x = x if model == "fashion_pooled" else x.transpose(0, 2, 3, 1)
    path = SAMPLES / f"{model}.onnx"
    logits = []
    for name in ("openvino", "cpu"):
        session = Session(path, resolve_device(name), forward=True)
        (found,) = session.run({session.inputs[0]: np.ascontiguousarray(x)}).values()
        logits.append(found)
    np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-4)


def test_robust_accuracies_are_those_of_the_cpu(tmp_path: Path) -> None:
    found = []
    for device in ("openvino", "cpu"):
        report = tmp_path / f"{device}.json"
        arguments = ["evaluate", str(SAMPLES / "fashion_robust.onnx"), "--data"]
        arguments += [str(SAMPLES / "test.npz"), "--limit", "200", "--attack", "apgd", "--quiet"]
        arguments += ["--steps", "10", "--device", device, "--report", str(report)]
        assert run(arguments) == 0
        document = json.loads(report.read_text())
        (model,) = document["models"]
        found.append((document["device"], model["robust"][0]["worst_case"]["value"]))
    assert found[0][0] == {
        "provider": "OpenVINOExecutionProvider",
        "gradients": "CPUExecutionProvider",
    }
    assert abs(found[0][1] - found[1][1]) <= 0.005
