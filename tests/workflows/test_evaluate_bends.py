"""Bends where inputs may go no further hide nothing, against what is exact of linear models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from cloakify.settings import EvaluateSetting
from cloakify.workflows.evaluate import evaluate

EPS, SAMPLES, SIDE, CLASSES = 0.1, 64, 6, 3

# All of them are x itself wherever a sample may be, in [0, 1], and most have no slope at 0 or 1.
IDENTITIES = {
    "none": "i = Identity (x)",
    "relu": "i = Relu (x)",
    "both": "a = Relu (x) b = Sub (one, a) c = Relu (b) i = Sub (one, c)",
    "abs": "i = Abs (x)",
    "where": "c = Greater (x, zero) i = Where (c, x, zero)",
    "product": "c = Greater (x, zero) m = Cast <to = 1> (c) i = Mul (x, m)",
    "root": "s = Mul (x, x) i = Sqrt (s)",
    "square": "s = Sqrt (x) i = Mul (s, s)",
    # A slope of -1 at 0.
    "astray": "a = Relu (x) d = Add (a, a) i = Sub (d, x)",
    "behind": "e = Conv (x, kernel) i = Relu (e)",
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_what_withstands_is_what_exactly_does(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    # As of drawings: most numbers lie on the border.
    x = rng.integers(0, 2, (SAMPLES, 1, SIDE, SIDE)).astype(np.float32)
    weight = rng.normal(0, 1, (SIDE * SIDE, CLASSES)).astype(np.float32)
    weight[:: SIDE + 1] *= 3
    y = (x.reshape(SAMPLES, -1) @ weight).argmax(axis=1)
    text = f"""
        <ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 1, {SIDE}, {SIDE}] x) => (float[N, {CLASSES}] z)
        <float zero = {{0.0}}, float one = {{1.0}}, float[1, 1, 1, 1] kernel = {{1.0}}>
        {{ {IDENTITIES[name]} g = Flatten (i) z = MatMul (g, W) }}
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "W"))
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=x, y=y)

    setting = EvaluateSetting(eps=(EPS,), device="cpu", effort="quick")
    (found,) = evaluate([tmp_path / "model.onnx"], tmp_path / "data.npz", setting).report.models
    right = round(found.robust[0].worst_case.value * SAMPLES)
    assert right == exactly_robust(x, y, weight)
    assert not any(warning.code == "planted-samples-missed" for warning in found.warnings)
    attacks = [entry.attack for entry in found.robust[0].attacks]
    assert ("apgd-bpda" in attacks) is (name != "none")


def exactly_robust(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> int:
    """Return how many samples no point of ball and box changes the answer to, of z = W x."""
    flat = x.reshape(len(x), -1)
    lowest, highest = (np.clip(flat + step, 0, 1) - flat for step in (-EPS, EPS))
    robust = np.ones(len(x), bool)
    for rival in range(weight.shape[1]):
        apart = weight[:, y].T - weight[:, [rival] * len(y)].T
        margin = (flat * apart).sum(1) + np.minimum(apart * lowest, apart * highest).sum(1)
        robust &= (margin > 0) | (y == rival)
    return int(robust.sum())
