"""Hardened files run wherever their source ran, and answer there as in ONNX Runtime.

With a mask, and with gates folded into the weights; a runtime that does not run the source is not
asked. tests/compat/README.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.fold import fold_gates
from cloakify.graph.edit.mask import insert_mask

pytestmark = pytest.mark.compat

SAMPLES = Path(__file__).parents[2] / "sample_models"
MODELS = ("fashion_pooled", "fashion_wide", "fashion_robust", "fashion_keras", "fashion_shirt")
Answer = Callable[[Path, np.ndarray], np.ndarray]


def by_onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def by_reference(path: Path, x: np.ndarray) -> np.ndarray:
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load(path))
    return evaluator.run(None, {evaluator.input_names[0]: x})[0]


def by_openvino(path: Path, x: np.ndarray) -> np.ndarray:
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([x])[compiled.output(0)]


def by_tract(path: Path, x: np.ndarray) -> np.ndarray:
    tract = pytest.importorskip("tract")
    runnable = tract.onnx().load(path).into_model().into_runnable()
    return runnable.run([x])[0].to_numpy()


def by_opencv(path: Path, x: np.ndarray) -> np.ndarray:
    network = pytest.importorskip("cv2").dnn.readNetFromONNX(str(path))
    network.setInput(x)
    return network.forward()


RUNTIMES: dict[str, Answer] = {
    "onnx's reference": by_reference,
    "OpenVINO": by_openvino,
    "tract": by_tract,
    "OpenCV": by_opencv,
}


def masked(source: onnx.ModelProto) -> onnx.ModelProto:
    head = find_head(source).head
    return insert_mask(source, head, (np.arange(head.num_features) % 5 != 0).astype(float), {})


def folded(source: onnx.ModelProto) -> onnx.ModelProto:
    sites = [site for site in find_gate_sites(source, find_head(source).head) if site.foldable]
    rng = np.random.default_rng(0)
    gates = [rng.uniform(0.7, 1.3, site.channels).astype(np.float32) for site in sites]
    return fold_gates(source, sites, gates, {})


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", MODELS)
def test_it_runs_where_its_source_ran(name, runtime, tmp_path, record_property):
    record_property("family", f"hardened, in {runtime}")
    record_property("model", name)
    source = SAMPLES / f"{name}.onnx"
    with np.load(SAMPLES / "test.npz") as data:
        x = data["x"][:64]
    x = x.transpose(0, 2, 3, 1).copy() if name in ("fashion_keras", "fashion_shirt") else x
    run = RUNTIMES[runtime]
    try:
        own = run(source, x)
    except Exception as error:  # noqa: BLE001 (runtimes have errors of their own)
        pytest.skip(f"does not run the source: {error}".splitlines()[0][:120])
    np.testing.assert_allclose(own, by_onnxruntime(source, x), rtol=1e-3, atol=1e-3)
    for how in (masked, folded):
        path = tmp_path / f"{how.__name__}.onnx"
        onnx.save(how(onnx.load(source)), path)
        expected = by_onnxruntime(path, x)
        assert np.abs(expected - own).max() > 1e-3
        np.testing.assert_allclose(run(path, x), expected, rtol=1e-3, atol=1e-3)
