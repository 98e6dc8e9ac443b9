"""Bends where inputs may go no further hide nothing, against what is exact of linear models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from cloakify.settings import EvaluateSetting, HardenSetting
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from tests.support.exact_linear import CLASSES, EPS, SAMPLES, SIDE, drawings, exactly_robust

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
    # No number for what is not chosen, and so none for the slope of what is.
    "lost": "b = Sub (x, half) r = Sqrt (b) q = Mul (r, r) d = Add (q, half) "
    "c = GreaterOrEqual (x, half) i = Where (c, d, x)",
    # A slope of -1 at 0.
    "astray": "a = Relu (x) d = Add (a, a) i = Sub (d, x)",
    "behind": "e = Conv (x, kernel) i = Relu (e)",
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_what_withstands_is_what_exactly_does(tmp_path: Path, name: str) -> None:
    x, y, weight = drawings(SAMPLES)
    text = f"""
        <ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 1, {SIDE}, {SIDE}] x) => (float[N, {CLASSES}] z)
        <float zero = {{0.0}}, float one = {{1.0}}, float half = {{0.5}},
         float[1, 1, 1, 1] kernel = {{1.0}}>
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


def test_a_mask_that_leaves_only_what_bends_hides_nothing(tmp_path: Path) -> None:
    """Large smooth features fall to the mask; small ones behind a bend answer the same."""
    x, _, weight = drawings(4096)
    half = SIDE * SIDE // 2
    smooth, bent = weight.copy(), weight.copy()
    smooth[half:], bent[:half] = 0, 0
    answers = [(x.reshape(len(x), -1) @ each).argmax(axis=1) for each in (smooth, bent)]
    agreed = np.flatnonzero(answers[0] == answers[1])[:512]
    x, y = x[agreed], answers[0][agreed]
    text = f"""
        <ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 1, {SIDE}, {SIDE}] x) => (float[N, {CLASSES}] z)
        <float thousand = {{1000.0}}>
        {{ i = Flatten (x) r = Relu (i) s = Mul (i, thousand) t = Concat <axis = 1> (s, r)
           z = MatMul (t, W) }}
    """
    model = onnx.parser.parse_model(text)
    both = np.concatenate([smooth / 1000, 0.03 * bent]).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(both, "W"))
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    setting = HardenSetting(eps=EPS, score="deepcloak", mask_ratio=0.5, device="cpu")
    found = harden(
        tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "hardened.onnx", setting
    ).report
    adaptive = found.accuracy.hardened.adaptive
    assert adaptive.low <= exactly_robust(x, y, bent) / len(x) <= adaptive.high
