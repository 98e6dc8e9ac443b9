"""On a GPU comes out what comes out on the CPU, and again the same.

pytest -m gpu tests/gpu            # DEVICE=cpu tries the tests where there is none
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from cloakify.attacks import Target, make_attack, make_threat
from cloakify.cli.main import run
from cloakify.data import Preprocessing
from cloakify.experiment.classifier import open_classifier
from cloakify.runtime import BatchSize, resolve_device
from cloakify.runtime.devices import CUDA_PROVIDER, Device

pytestmark = pytest.mark.gpu

SAMPLES = Path(__file__).parents[2] / "sample_models"
MODELS = ("fashion_pooled", "fashion_keras")
FEW = 400

# Of a ranking by float32 sums: so many features may change places with their like.
TIES = 0.05
POINTS = 0.5


def hardened(model: str, device: str, folder: Path) -> dict[str, Any]:
    """Harden a sample model, and return its report without what differs from run to run."""
    report, output = folder / "report.json", folder / "hardened.onnx"
    arguments = ["harden", str(SAMPLES / f"{model}.onnx"), "--data", str(SAMPLES / "calib")]
    arguments += ["--device", device, "--eps", "4/255", "--limit", "160", "--effort", "quick"]
    arguments += ["--mask-ratio", "0.2", "--score", "deepcloak", "-o", str(output), "--quiet"]
    assert run([*arguments, "--report", str(report)]) in (0, 1)
    document = json.loads(report.read_text())
    output.unlink(missing_ok=True)
    report.unlink()
    document.pop("timing")
    return document


@pytest.mark.parametrize("model", MODELS)
def test_masks_are_those_of_the_cpu(model: str, device: str, tmp_path: Path) -> None:
    here = hardened(model, device, tmp_path)["mask"]
    there = hardened(model, "cpu", tmp_path)["mask"]
    assert here["removed"] == there["removed"]
    moved = set(here["indices"]) - set(there["indices"])
    assert len(moved) <= max(1, TIES * here["removed"]), moved


def test_a_run_repeats_itself(device: str, tmp_path: Path) -> None:
    first, second = (hardened("fashion_pooled", device, tmp_path) for _ in range(2))
    assert first == second


def target_on(
    device: Device, batch: BatchSize | int = 64, model: str = "fashion_pooled"
) -> tuple[Target, Any, Any]:
    """Return a sample model as a target, and samples."""
    classifier = open_classifier(SAMPLES / f"{model}.onnx")
    with np.load(SAMPLES / "test.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"], arrays["y"]
    if classifier.spec.channel_axis != 1:
        x = x.transpose(0, 2, 3, 1)
    target = Target(classifier.model, classifier.spec, classifier.scores, device, batch)
    return target, x, y


def attacked(target: Target, x: Any, y: Any) -> Any:
    """Return what Auto-PGD makes of samples."""
    threat = make_threat("linf", 4 / 255, target.spec, Preprocessing())
    return make_attack("apgd", steps=20).run(target, x, y, np.arange(len(x)), threat)


@pytest.mark.parametrize("model", (*MODELS, "fashion_robust"))
def test_robust_accuracies_are_those_of_the_cpu(model: str, device: str) -> None:
    right = []
    for name in (device, "cpu"):
        target, x, y = target_on(resolve_device(name), 64, model)
        found = attacked(target, x[:FEW], y[:FEW])
        right.append(target.correct(found, y[:FEW]).mean())
    assert abs(right[0] - right[1]) <= POINTS / 100


def test_an_attack_repeats_itself_to_the_bit(device: str) -> None:
    found = []
    for _ in range(2):
        target, x, y = target_on(resolve_device(device))
        found.append(attacked(target, x[:FEW], y[:FEW]))
    assert np.array_equal(*found)


def test_gradients_are_those_of_the_cpu(device: str) -> None:
    here, x, y = target_on(resolve_device(device))
    there, *_ = target_on(resolve_device("cpu"))
    ours, theirs = (target.evaluate(x[:256], y[:256]) for target in (here, there))
    for mine, reference in ((ours.logits, theirs.logits), (ours.gradient, theirs.gradient)):
        apart = np.linalg.norm((mine - reference).reshape(256, -1), axis=1)
        size = np.linalg.norm(reference.reshape(256, -1), axis=1)
        # A Relu or a MaxPool may take its other side within rounding.
        assert np.mean(apart <= 1e-4 * size + 1e-7) > 0.98


def test_nothing_of_an_attack_is_placed_on_the_cpu(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    made = ort.InferenceSession

    def recording(source: object, options: ort.SessionOptions, **more: object) -> object:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        opened.append(made(source, options, **more))
        return opened[-1]

    monkeypatch.setattr(ort, "InferenceSession", recording)
    on = resolve_device(device)
    target, x, y = target_on(on)
    attacked(target, x[:64], y[:64])
    elsewhere = [
        (part.ep_name, node.op_type)
        for session in opened
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if part.ep_name != on.provider
    ]
    assert opened and elsewhere == []


def test_batches_are_halved_where_memory_ends(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on = resolve_device(device)
    if on.kind != "cuda":
        pytest.skip("the CPU's memory has no limit to be set")
    everything = Device.providers.fget

    def limited(self: Device) -> object:
        return [
            (
                name,
                {**options, "gpu_mem_limit": str(64 << 20)} if name == CUDA_PROVIDER else options,
            )
            for name, options in everything(self)
        ]

    monkeypatch.setattr(Device, "providers", property(limited))
    batch = BatchSize(2000)
    target, x, y = target_on(on, batch)
    threat = make_threat("linf", 4 / 255, target.spec, Preprocessing())
    found = make_attack("pgd", steps=2).run(target, x, y, np.arange(len(x)), threat)
    assert len(found) == len(x)
    assert batch.now < batch.first
