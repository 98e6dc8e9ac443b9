"""What deployment tools make of hardened files: mask or gates stay in force; `verify` says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import insert_mask, mask_digest
from cloakify.onnxfile import open_model
from cloakify.workflows.verify import verify
from tests.support.hardening import made_from
from tests.support.tuned_files import FORMS, tuned

pytestmark = pytest.mark.compat

SAMPLES = Path(__file__).parents[2] / "sample_models"
MODELS = ("fashion_pooled", "fashion_wide", "fashion_keras", "fashion_shirt")
LEVELS = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
TOOLS = (
    *LEVELS,
    *("onnxslim", "onnxsim", "float16", "float16, inputs kept"),
    *("dynamic", "static QDQ", "static QOperator"),
)


def hardened(name: str, folder: Path) -> Path:
    """Write a sample model with every fifth feature masked."""
    file = open_model(SAMPLES / f"{name}.onnx")
    head = find_head(file.model).head
    mask = (np.arange(head.num_features) % 5 != 0).astype(np.float32)
    facts = {
        "mask_sha256": mask_digest(mask),
        "mask_removed": str(int((mask == 0).sum())),
        "mask_total": str(len(mask)),
    }
    path = folder / "hardened.onnx"
    onnx.save(insert_mask(file.model, head, mask, made_from(file, head, **facts)), path)
    return path


def transform(tool: str, path: Path, x: np.ndarray) -> Path:
    """Run a tool on a file; return what it wrote."""
    out = path.with_name("transformed.onnx")
    if tool in LEVELS:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(out)
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, tool)
        options.log_severity_level = 4
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    elif tool == "onnxslim":
        slim = pytest.importorskip("onnxslim").slim(onnx.load(path))
        onnx.save(slim, out)
    elif tool == "onnxsim":
        simple, _ = pytest.importorskip("onnxsim").simplify(onnx.load(path))
        onnx.save(simple, out)
    elif tool.startswith("float16"):
        float16 = pytest.importorskip("onnxconverter_common.float16")
        kept = tool.endswith("kept")
        onnx.save(float16.convert_float_to_float16(onnx.load(path), keep_io_types=kept), out)
    else:
        quantise(tool, path, out, x)
    return out


def quantise(tool: str, path: Path, out: Path, x: np.ndarray) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    # The quantiser turns weights and does not mend what the file says of their shapes.
    bare = onnx.load(path)
    del bare.graph.value_info[:]
    onnx.save(bare, path)
    if tool == "dynamic":
        quantization.quantize_dynamic(path, out)
        return

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, Any]] = iter([{"input": x}])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    form = getattr(quantization.QuantFormat, tool.split()[1])
    quantization.quantize_static(path, out, Reader(), quant_format=form)


def samples_of(name: str) -> np.ndarray:
    with np.load(SAMPLES / "test.npz") as data:
        x = data["x"][:64]
    return x.transpose(0, 2, 3, 1).copy() if name in ("fashion_keras", "fashion_shirt") else x


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", MODELS)
def test_the_mask_is_in_force(name, tool, tmp_path, record_property):
    record_property("family", "transformed after hardening")
    record_property("model", f"{name}, {tool}")
    path = hardened(name, tmp_path)
    result = verify(transform(tool, path, samples_of(name)), SAMPLES / f"{name}.onnx", "cpu")
    found = result.transformed
    assert found is not None, (result.faults[:2], result.remarks)
    assert found.named
    record_property("error", f"off by {found.difference:.2%}")


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_the_gates_are_in_force(name, form, tool, tmp_path, record_property):
    record_property("family", "transformed after tuning")
    record_property("model", f"{name}, {form}, {tool}")
    source = SAMPLES / f"{name}.onnx"
    onnx.save(tuned(source, form), tmp_path / "hardened.onnx")
    path = transform(tool, tmp_path / "hardened.onnx", samples_of(name))
    result = verify(path, source, "cpu")
    found = result.transformed
    assert found is not None, (result.faults[:2], result.remarks)
    assert found.kind == "gates"
    # Rounded anew, they have another digest.
    assert found.named or found.arithmetic != "floats of 32 bits"
    record_property("error", f"off by {found.difference:.2%}")
