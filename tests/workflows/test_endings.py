"""What is made of a layer's scores hides nothing, against what is exact of linear models."""

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

# Each has its largest number where s has; all but the first lead astray, or nowhere.
ENDINGS = {
    "scaled": "z = Mul (s, three)",
    "sine": "p = Softmax (s) a = Mul (p, three) z = Sin (a)",
    "valley": "p = Softmax (s) q = Sub (one, p) z = Mul (p, q)",
    "valley, softmax": "p = Softmax (s) q = Sub (one, p) a = Mul (p, q) b = Mul (a, three) "
    "z = Softmax (b)",
    "hill": "p = Softmax (s) d = Sub (p, most) q = Mul (d, d) n = Neg (q) e = Exp (n) "
    "z = Mul (e, three)",
    # Two layers vote.
    "votes": "t = MatMul (g, W) a = Hardmax <axis = 1> (s) b = Hardmax <axis = 1> (t) "
    "z = Add (a, b)",
    "places": "t = MatMul (g, W) k = ArgMax <axis = 1, keepdims = 0> (s) "
    "a = OneHot <axis = -1> (k, classes, ends) j = ArgMax <axis = 1, keepdims = 0> (t) "
    "b = Gather (rows, j) z = Add (a, b)",
    "ranks": "v, k = TopK <axis = 1> (s, all) n = Mul (v, zero) u = Add (n, points) "
    "e = Mul (s, zero) z = ScatterElements <axis = 1> (e, k, u)",
}


def write(folder: Path, ending: str, weight: np.ndarray) -> Path:
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 1, {SIDE}, {SIDE}] x) => (float[N, {CLASSES}] z)
        <float zero = {{0.0}}, float one = {{1.0}}, float three = {{3.0}}, float most = {{0.7}},
         int64[1] all = {{{CLASSES}}}, float[1, {CLASSES}] points = {{3.0, 2.0, 1.0}},
         int64 classes = {{{CLASSES}}}, float[2] ends = {{0.0, 1.0}},
         float[3, 3] rows = {{1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0}},
         int64[{CLASSES}] order = {{2, 0, 1}}>
        {{ g = Flatten (x) s = MatMul (g, W) {ending} }}
    """)
    # Small enough for 1 - p to be no 0 in float32.
    model.graph.initializer.append(onnx.numpy_helper.from_array(0.7 * weight, "W"))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("name", ENDINGS)
def test_what_withstands_is_what_exactly_does(tmp_path: Path, name: str) -> None:
    x, y, weight = drawings(SAMPLES)
    model = write(tmp_path, ENDINGS[name], weight)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    setting = EvaluateSetting(eps=(EPS,), device="cpu", effort="quick")
    (found,) = evaluate([model], tmp_path / "data.npz", setting).report.models
    right = round(found.robust[0].worst_case.value * SAMPLES)
    assert right == exactly_robust(x, y, weight)
    attacks = [entry.attack for entry in found.robust[0].attacks]
    assert name != "scaled" or "apgd-bpda" not in attacks


def test_a_layer_that_answers_otherwise_does_not_lead(tmp_path: Path) -> None:
    x, y, weight = drawings(SAMPLES)
    order = [2, 0, 1]
    model = write(tmp_path, "p = Softmax (s) z = Gather <axis = 1> (p, order)", weight)
    np.savez(tmp_path / "data.npz", x=x, y=np.argsort(order)[y])
    setting = EvaluateSetting(eps=(EPS,), device="cpu", effort="quick", attack="apgd-bpda")
    (found,) = evaluate([model], tmp_path / "data.npz", setting).report.models
    (entry,) = found.robust[0].attacks[:1]
    assert round(entry.accuracy.value * SAMPLES) == exactly_robust(x, y, weight)


def test_harden_sees_through_an_ending(tmp_path: Path) -> None:
    x, y, weight = drawings(1024)
    figures = {}
    for name in ("scaled", "valley"):
        model = write(tmp_path, ENDINGS[name], weight)
        np.savez(tmp_path / "data.npz", x=x, y=y)
        setting = HardenSetting(
            eps=EPS, score="deepcloak", mask_ratio=0.1, device="cpu", effort="quick"
        )
        found = harden(model, tmp_path / "data.npz", tmp_path / "hardened.onnx", setting)
        figures[name] = found.report.accuracy.source.adaptive.value
    assert figures["valley"] <= figures["scaled"] + 0.02
