"""Figures are of exact products of integers; that the runtime's own choice differs is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array

from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden

CODE = "sums-cut-off"
DEPTH, CLASSES, COUNT = 96, 4, 200
STEP = np.float32(1 / 255)


class Quantised:
    """A linear classifier of numbers from 0 to 1 that multiplies integers, and what it answers."""

    def __init__(self, folder: Path) -> None:
        generator = np.random.default_rng(0)
        self.weight = generator.integers(-128, 128, (DEPTH, CLASSES), np.int8)
        self.x = generator.random((COUNT, DEPTH)).astype(np.float32)
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            net (float[N, {DEPTH}] x) => (float[N, {CLASSES}] y)
            <uint8 o = {{0}}, float s = {{{STEP}}}, float scale = {{0.0001}}> {{
                q = QuantizeLinear (x, s, o)  i = MatMulInteger (q, w, o)
                c = Cast <to = 1> (i)  y = Mul (c, scale)
            }}"""
        )
        model.graph.initializer.append(from_array(self.weight, "w"))
        self.path, self.data = folder / "model.onnx", folder / "data.npz"
        onnx.save(model, self.path)
        exact = np.rint(self.x / STEP).astype(np.int64) @ self.weight.astype(np.int64)
        self.y = exact.argmax(axis=1)
        np.savez(self.data, x=self.x, y=self.y)

    def moved(self) -> np.ndarray:
        """Tell which samples a session with no option answers otherwise: none, with VNNI."""
        session = ort.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": self.x})[0].argmax(axis=1) != self.y


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Quantised:
    return Quantised(tmp_path_factory.mktemp("quantised"))


def test_evaluation_is_exact_and_says_what_is_not(quantised: Quantised) -> None:
    setting = EvaluateSetting(eps=(0.01,), attack="fgsm", device="cpu")
    (model,) = evaluate(quantised.path, quantised.data, setting).report.models
    assert model.clean.value == 1
    told = {warning.code: warning.value for warning in model.warnings}
    assert told.get(CODE, 0) == pytest.approx(quantised.moved().mean())


def test_attack_says_so_too(quantised: Quantised, tmp_path: Path) -> None:
    setting = AttackSetting(eps=0.01, steps=1, device="cpu")
    notes = attack(quantised.path, quantised.data, tmp_path / "a.npz", setting).notes
    assert any("cut sums off" in note for note in notes) == bool(quantised.moved().any())


def test_harden_says_so_of_what_it_writes(quantised: Quantised, tmp_path: Path) -> None:
    setting = HardenSetting(eps=0.01, mask_ratio=0.1, evaluation_steps=2, device="cpu")
    result = harden(quantised.path, quantised.data, tmp_path / "h.onnx", setting)
    codes = [warning.code for warning in result.report.warnings]
    assert (CODE in codes) == bool(quantised.moved().any())
