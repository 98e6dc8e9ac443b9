"""`harden` on the sample models: an independent recomputation of the mask, and the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.data import split
from cloakify.errors import DataError, GateError, ModelError, UsageError
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.edit.mask import strip_mask
from cloakify.onnxfile import compare_models, open_model, read_metadata
from cloakify.report import as_document, load_schema
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import HardenResult, harden

EPS = 4 / 255
# Small enough for a unit test: 200 images, and a short evaluation.
QUICK = {
    "limit": 200,
    "evaluation_steps": 3,
    "device": "cpu",
    "eps": EPS,
    "score": "deepcloak",
}


def quick(samples: Path, model: Path, output: Path, **changes: object) -> HardenResult:
    # A mask whose size is given is written anyway.
    options = {**QUICK, "write_anyway": "mask_ratio" not in changes, **changes}
    setting = HardenSetting(**options)  # type: ignore[arg-type]
    return harden(model, samples / "calib", output, setting)


def calibration_images(samples: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images in the order of folders and names, read by Pillow alone; [n, 28, 28] in [0, 1]."""
    from PIL import Image

    images, labels = [], []
    for label, folder in enumerate(sorted((samples / "calib").iterdir())):
        for path in sorted(folder.iterdir()):
            images.append(np.asarray(Image.open(path), np.float32) / np.float32(255))
            labels.append(label)
    return np.stack(images), np.array(labels)


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with its float32 constants in double."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def test_mask_equals_an_independent_recomputation(
    samples: Path, sample_model: Path, tmp_path: Path
) -> None:
    """Torch runs the graph, autograd makes the FGSM samples, a plain sum ranks the features.

    In double: in float32 autograd's gradient of a sure prediction rounds to 0, and a sample that
    does not move counts for nothing.
    """
    torch = pytest.importorskip("torch", reason="torch recomputes the mask")
    from tests.support.torch_graph import run_in_torch

    result = quick(
        samples, sample_model, tmp_path / "h.onnx", limit=None, mask_ratio=0.1, evaluation_steps=1
    )
    model = in_double(onnx.load(sample_model))
    head, spec = find_head(model).head, find_input(model)
    images, labels = calibration_images(samples)
    fit = split(len(labels), labels, 0).fit
    shape = (-1, 1, 28, 28) if spec.channel_axis == 1 else (-1, 28, 28, 1)
    x = torch.tensor(images[fit].reshape(shape).astype(np.float64), requires_grad=True)
    y = torch.tensor(labels[fit])
    clean, logits = run_in_torch(model, x, [head.features, head.logits])
    torch.nn.functional.cross_entropy(logits, y, reduction="sum").backward()
    attacked = (x.detach() + EPS * x.grad.sign()).clamp(0, 1)
    with torch.no_grad():
        (moved,) = run_in_torch(model, attacked, [head.features])
    shift = (moved - clean.detach()).abs().sum(0).numpy()
    size = max(1, int(head.num_features * 0.1))
    expected = sorted(sorted(range(len(shift)), key=lambda j: (-shift[j], j))[:size])
    assert list(result.report.mask.indices) == expected


def test_file_differs_by_the_mask_alone(samples: Path, sample_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "h.onnx"
    result = quick(samples, sample_model, output, mask_ratio=0.1)
    source, hardened = open_model(sample_model), open_model(output)
    paths = [difference.path for difference in compare_models(source.model, hardened.model)]
    metadata = [path for path in paths if path.startswith("metadata_props[cloakify.")]
    assert len(paths) - len(metadata) == 3
    assert strip_mask(hardened.model).SerializeToString() == sample_model.read_bytes()
    said = read_metadata(hardened.model)
    assert said["source.sha256"] == source.sha256 == result.report.source.sha256
    assert said["mask.removed"] == str(result.report.mask.removed)


@pytest.mark.parametrize("batch_size", [1, 17, 256])
def test_same_mask_for_every_batch_size(samples: Path, tmp_path: Path, batch_size: int) -> None:
    model = samples / "fashion_wide.onnx"
    changes = {"mask_ratio": 0.05, "evaluation_steps": 1, "limit": 120}
    reference = quick(samples, model, tmp_path / "a.onnx", **changes)
    other = quick(samples, model, tmp_path / "b.onnx", **changes, batch_size=batch_size)
    assert other.report.mask.indices == reference.report.mask.indices


def test_same_bytes_twice(samples: Path, tmp_path: Path) -> None:
    model = samples / "fashion_pooled.onnx"
    for name in ("a.onnx", "b.onnx"):
        quick(samples, model, tmp_path / name, max_accuracy_drop=0.5)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("method", ["deepcloak", "tuned"])
def test_same_bytes_on_machines_with_more_cores(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    changes: dict[str, object] = {"method": method, "max_accuracy_drop": 0.5}
    changes |= {"score": "auto", **({"tune_steps": 8} if method == "tuned" else {})}
    found = []
    for cores in (1, 5):
        monkeypatch.setattr("cloakify.runtime.devices.available_cores", lambda cores=cores: cores)
        output = tmp_path / f"{cores}.onnx"
        quick(samples, samples / "fashion_pooled.onnx", output, **changes)
        found.append(output.read_bytes())
    assert found[0] == found[1]


def test_report_fits_the_schema(samples: Path, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="validates the report")
    result = quick(samples, samples / "fashion_keras.onnx", tmp_path / "h.onnx", mask_ratio=0.02)
    document = as_document(result.report)
    jsonschema.validate(document, load_schema())
    assert document["data"]["fit"] + document["data"]["select"] + document["data"]["report"] == 200
    assert document["accuracy"]["source"]["transfer"] == document["accuracy"]["source"]["adaptive"]
    assert document["accuracy"]["source"]["clean"]["n"] == document["data"]["report"]


def test_auto_obeys_the_accuracy_budget(samples: Path, tmp_path: Path) -> None:
    model = samples / "fashion_wide.onnx"
    removed = [
        quick(samples, model, tmp_path / "h.onnx", max_accuracy_drop=drop).report.mask.removed
        for drop in (0.0, 0.1)
    ]
    assert 1 <= removed[0] <= removed[1]


def test_report_limit(samples: Path, tmp_path: Path) -> None:
    result = quick(samples, samples / "fashion_keras.onnx", tmp_path / "h.onnx", report_limit=20)
    assert result.report.data.report == 20
    assert result.report.accuracy.source.adaptive.n == 20


def test_no_mask_is_cheap_enough(samples: Path, tmp_path: Path) -> None:
    output = tmp_path / "h.onnx"
    with pytest.raises(GateError, match="no file was written"):
        quick(samples, samples / "fashion_pooled.onnx", output, max_accuracy_drop=-0.5)
    assert not output.exists()


def test_required_gain_is_missed(samples: Path, tmp_path: Path) -> None:
    output = tmp_path / "h.onnx"
    result = quick(
        samples, samples / "fashion_pooled.onnx", output, mask_ratio=0.1, require_gain=0.9
    )
    assert result.gate is not None and "asks for +90.0" in result.gate
    assert result.path is None and result.report.output is None and not output.exists()


def test_hardening_twice(samples: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    model = samples / "fashion_pooled.onnx"
    quick(samples, model, once, mask_ratio=0.05)
    with pytest.raises(ModelError, match=r"hardened already.*--replace-mask"):
        quick(samples, once, twice, mask_ratio=0.2)
    result = quick(samples, once, twice, mask_ratio=0.2, replace_mask=True)
    assert result.report.mask.removed == 12
    fresh = tmp_path / "fresh.onnx"
    quick(samples, model, fresh, mask_ratio=0.2)
    # Out with the old mask, in with the new: as if the source itself had been hardened.
    assert twice.read_bytes() == fresh.read_bytes()


def test_wrong_labels_stop_the_run(samples: Path, tmp_path: Path) -> None:
    with np.load(samples / "test.npz") as file:
        x, y = file["x"], file["y"]
    wrong = tmp_path / "shuffled.npz"
    np.savez(wrong, x=x[:300], y=np.random.default_rng(0).permutation(y[:300]))
    setting = HardenSetting(**{**QUICK, "limit": None})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="chance"):
        harden(samples / "fashion_pooled.onnx", wrong, tmp_path / "h.onnx", setting)
    assert not (tmp_path / "h.onnx").exists()


def test_labels_by_the_model(samples: Path, tmp_path: Path) -> None:
    model = samples / "fashion_pooled.onnx"
    result = quick(samples, model, tmp_path / "h.onnx", mask_ratio=0.05, labels="model")
    assert result.report.accuracy.source.clean.value == 1.0
    assert result.report.data.labels == "model"


def test_the_source_is_never_overwritten(samples: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes((samples / "fashion_pooled.onnx").read_bytes())
    with pytest.raises(UsageError, match="source"):
        quick(samples, copy, copy, mask_ratio=0.05)
    assert copy.read_bytes() == (samples / "fashion_pooled.onnx").read_bytes()


def test_copies_are_left_out(samples: Path, tmp_path: Path) -> None:
    with np.load(samples / "test.npz") as file:
        x, y = file["x"][:40], file["y"][:40]
    data = tmp_path / "copies.npz"
    np.savez(data, x=np.concatenate([x, x, x]), y=np.concatenate([y, y, y]))
    setting = HardenSetting(**{**QUICK, "limit": None, "mask_ratio": 0.05})  # type: ignore[arg-type]
    result = harden(samples / "fashion_pooled.onnx", data, tmp_path / "h.onnx", setting)
    found = result.report.data
    assert found.fit + found.select + found.report == 40
    assert "80 of 120 samples are exact copies of others and left out" in result.notes


def test_unknown_score(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--score"):
        quick(samples, samples / "fashion_pooled.onnx", tmp_path / "h.onnx", score="magic")
