"""The sample models and data are what their README says."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parents[2] / "sample_models"
# Accuracy that each file must reach on test.npz.
FLOOR = {
    "fashion_pooled": 0.90,
    "fashion_wide": 0.90,
    "fashion_keras": 0.90,
    "fashion_robust": 0.87,
    "fashion_shirt": 0.95,
}
# What is worn above the waist, of Fashion-MNIST's classes.
SHIRTS = (0, 2, 4, 6)
TORCH_FEATURES = {"fashion_pooled": "pooled", "fashion_wide": "wide", "fashion_robust": "pooled"}
TORCH_WIDTH = {"fashion_pooled": 64, "fashion_wide": 3136, "fashion_robust": 64}


@pytest.fixture(scope="module")
def held_out() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with np.load(ROOT / "test.npz", allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def scores(name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run one model on NCHW images, in the layout that its metadata states."""
    session = ort.InferenceSession(ROOT / f"{name}.onnx", providers=["CPUExecutionProvider"])
    if session.get_modelmeta().custom_metadata_map["input_layout"] == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return session.run(None, {"input": x})[0]


def test_test_file_is_balanced_and_in_the_unit_range(held_out):
    x, y = held_out
    assert (x.shape, x.dtype) == ((2000, 1, 28, 28), np.float32)
    assert (x.min(), x.max()) == (0, 1)
    assert y.dtype == np.int64
    assert np.bincount(y).tolist() == [200] * 10


def test_calibration_folder_has_100_grey_images_a_class():
    folders = sorted(path for path in (ROOT / "calib").iterdir())
    assert [folder.name[:2] for folder in folders] == [f"{k}_" for k in range(10)]
    for folder in folders:
        images = [Image.open(path) for path in folder.iterdir()]
        assert len(images) == 100
        assert {(i.format, i.mode, i.size) for i in images} == {("PNG", "L", (28, 28))}


def answers(name: str, found: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return classes; of one probability whether it is beyond the middle."""
    return found.argmax(1) if found.shape[1] > 1 else (found[:, 0] > 0.5).astype(np.int64)


@pytest.mark.parametrize("name", FLOOR)
def test_model_classifies_the_test_set(name, held_out):
    x, y = held_out
    y = np.isin(y, SHIRTS) if name == "fashion_shirt" else y
    assert (answers(name, scores(name, x)) == y).mean() >= FLOOR[name]


def test_shirts_are_balanced_and_told_from_all_else():
    with np.load(ROOT / "shirts.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"], arrays["y"]
    assert (x.shape, x.dtype, y.dtype) == ((400, 28, 28, 1), np.float32, np.int64)
    assert np.bincount(y).tolist() == [200, 200]
    found = scores("fashion_shirt", x.transpose(0, 3, 1, 2))
    assert (answers("fashion_shirt", found) == y).mean() >= FLOOR["fashion_shirt"]
    nodes = onnx.load(ROOT / "fashion_shirt.onnx").graph.node
    assert [node.op_type for node in nodes[-3:]] == ["MatMul", "Add", "Sigmoid"]


@pytest.mark.parametrize("name", FLOOR)
def test_batch_is_symbolic(name, held_out):
    x, _ = held_out
    together = scores(name, x[:17])
    assert together.shape == (17, 1 if name == "fashion_shirt" else 10)
    np.testing.assert_allclose(scores(name, x[:1]), together[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FLOOR)
def test_file_is_valid_whole_and_names_no_folder_of_its_maker(name):
    path = ROOT / f"{name}.onnx"
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    content = path.read_bytes()
    for folder in (b"/work", b"/tmp", b"/home", b"/root", b"site-packages"):
        assert folder not in content


@pytest.mark.parametrize("name", TORCH_WIDTH)
def test_torch_model_ends_in_a_gemm_on_its_features(name):
    graph = onnx.load(ROOT / f"{name}.onnx").graph
    head = graph.node[-1]
    weight = next(t for t in graph.initializer if t.name == head.input[1])
    assert (head.op_type, list(head.output)) == ("Gemm", ["logits"])
    assert list(weight.dims) == [10, TORCH_WIDTH[name]]


def test_keras_model_ends_in_matmul_add_softmax():
    graph = onnx.load(ROOT / "fashion_keras.onnx").graph
    assert [node.op_type for node in graph.node[-3:]] == ["MatMul", "Add", "Softmax"]
    dims = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert dims == [0, 28, 28, 1]


@pytest.mark.parametrize("name", TORCH_FEATURES)
def test_torch_original_gives_the_same_logits(name, held_out, monkeypatch):
    torch = pytest.importorskip("torch", reason="the originals are PyTorch modules")
    monkeypatch.syspath_prepend(str(ROOT))
    torch_models = importlib.import_module("torch_models")
    model = torch_models.load_model(ROOT / f"{name}.npz", TORCH_FEATURES[name])
    x = held_out[0][:200]
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(scores(name, x), expected, rtol=1e-4, atol=1e-4)


def test_everything_together_stays_under_8_mb():
    files = [p for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert (ROOT / "fashion_robust.onnx").stat().st_size < 1_000_000
    assert (ROOT / "fashion_shirt.onnx").stat().st_size < 300_000
