"""A layer for each class, each bent by itself: against the same network in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify
from tests.support.ranked import hardened_by_ranking

INPUTS, WIDTH, CLASSES, EPS = 10, 12, 4, 0.05
_RNG = np.random.default_rng(3)
FIRST = _RNG.normal(size=(INPUTS, WIDTH)) * 1.5
SHIFT = -FIRST.sum(axis=0) / 2
HEAD = _RNG.normal(size=(WIDTH, CLASSES))
BIAS = _RNG.normal(size=CLASSES) * 0.1
X = _RNG.random((240, INPUTS)).astype(np.float32)
Doubles = NDArray[np.float64]


def gemms() -> tuple[str, dict[str, Doubles]]:
    """A `Gemm` and a `Sigmoid` for each class."""
    steps = [f"z{k} = Gemm (f, w{k}, b{k})  p{k} = Sigmoid (z{k})" for k in range(CLASSES)]
    tensors = {f"w{k}": HEAD[:, [k]] for k in range(CLASSES)}
    return "  ".join(steps), tensors | {f"b{k}": BIAS[[k]] for k in range(CLASSES)}


def classifiers() -> tuple[str, dict[str, Doubles]]:
    """As skl2onnx writes `OneVsRestClassifier`: of both sides' probabilities one counts."""
    steps = []
    for k in range(CLASSES):
        rows = ", ".join(map(str, np.concatenate([-HEAD[:, k], HEAD[:, k]])))
        steps.append(
            f"l{k}, s{k} = ai.onnx.ml.LinearClassifier <classlabels_ints = [0, 1], "
            f"coefficients = [{rows}], intercepts = [{-BIAS[k]}, {BIAS[k]}], multi_class = 0, "
            f'post_transform = "LOGISTIC"> (f)  p{k} = Slice (s{k}, one, two, one)'
        )
    return "  ".join(steps), {}


@pytest.fixture(params=[gemms, classifiers])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    layers, tensors = request.param()
    shares = ", ".join(f"p{k}" for k in range(CLASSES))
    built = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"net (float[N, {INPUTS}] x) => (int64[N] label, float[N, {CLASSES}] y) "
        "<int64[1] one = {1}, int64[1] two = {2}> "
        f"{{ h = Gemm (x, v, b)  f = Tanh (h)  {layers}  q = Concat <axis = 1> ({shares})  "
        "label = ArgMax <axis = 1, keepdims = 0> (q)  y = LpNormalization <axis = 1, p = 1> (q) }"
    )
    for name, values in {"v": FIRST, "b": SHIFT, **tensors}.items():
        built.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(values), name))
    onnx.save(built, tmp_path / "rest.onnx")
    labels = logits(features(X)).argmax(axis=1)
    labels[::7] = (labels[::7] + 1) % CLASSES
    np.savez(tmp_path / "data.npz", x=X, y=labels)
    return tmp_path / "rest.onnx"


def features(x: NDArray[np.floating]) -> Doubles:
    found: Doubles = np.tanh(x @ FIRST + SHIFT)
    return found


def logits(phi: Doubles) -> Doubles:
    found: Doubles = phi @ HEAD + BIAS
    return found


def slope(x: NDArray[np.floating], y: NDArray[np.int64]) -> Doubles:
    """Of the cross-entropy of the scores before they are bent, in double."""
    phi = features(x)
    powers = np.exp(logits(phi))
    error = powers / powers.sum(axis=1, keepdims=True) - np.eye(CLASSES)[y]
    found: Doubles = (error @ HEAD.T * (1 - phi**2)) @ FIRST.T
    return found


def test_hardened_by_the_ranking_of_the_shared_features_and_proven(source: Path) -> None:
    hardened, installed = hardened_by_ranking(source, features, slope, EPS)
    masked = installed.node.output[0]
    assert sum(masked in node.input for node in hardened.graph.node) == CLASSES


def test_attacked_along_the_gradient_of_the_scores_before_they_are_bent(source: Path) -> None:
    out = source.with_name("attacked.npz")
    setting = AttackSetting(eps=EPS, attack="fgsm", device="cpu", accept_accuracy=True)
    attack(source, source.with_name("data.npz"), out, setting)
    with np.load(out) as made, np.load(source.with_name("data.npz")) as data:
        x, y, moved = data["x"], data["y"], made["x"]
    exact = slope(x.astype(np.float64), y)
    inside = (x > EPS) & (x < 1 - EPS) & (np.abs(exact) > 1e-5)
    assert inside.mean() > 0.7
    np.testing.assert_array_equal(np.sign(moved - x)[inside], np.sign(exact)[inside])


def test_judged_by_the_answers_of_the_whole_model(source: Path) -> None:
    setting = EvaluateSetting(eps=(EPS,), attack="fgsm", device="cpu", accept_accuracy=True)
    report = evaluate(source, source.with_name("data.npz"), setting).report
    assert report.models[0].clean.value == pytest.approx(1 - np.ceil(240 / 7) / 240)
    assert {each.code for each in report.models[0].warnings} & {"loss-on-probabilities"} == set()


def test_another_mask_of_the_same_layers_is_no_proof(source: Path) -> None:
    """A mask that one of the layers does not read is not the one that was put in."""
    out = source.with_name("hardened.onnx")
    setting = HardenSetting(
        eps=EPS, mask_ratio=0.3, score="deepcloak", device="cpu", evaluation_steps=2,
        accept_accuracy=True,
    )  # fmt: skip
    harden(source, source.with_name("data.npz"), out, setting)
    model = onnx.load(out)
    masked = next(node.output[0] for node in model.graph.node if node.op_type == "Mul")
    reader = [node for node in model.graph.node if masked in node.input][1]
    reader.input[0] = "f"
    onnx.save(model, out)
    assert verify(out, source, "cpu").faults


@pytest.mark.parametrize("layers", [gemms, classifiers])
def test_labels_of_a_layer_each_are_judged_by_their_probabilities(
    tmp_path: Path, layers: Callable[[], tuple[str, dict[str, Doubles]]]
) -> None:
    """As skl2onnx writes `OneVsRestClassifier` for labels: each holds from a half on."""
    steps, tensors = layers()
    shares = ", ".join(f"p{k}" for k in range(CLASSES))
    built = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"net (float[N, {INPUTS}] x) => (int64[N, {CLASSES}] label, float[N, {CLASSES}] y) "
        "<int64[1] one = {1}, int64[1] two = {2}, float half = {0.5}, int64 none = {0}> "
        f"{{ h = Gemm (x, v, b)  f = Tanh (h)  {steps}  y = Concat <axis = 1> ({shares})  "
        "t = Sub (y, half)  s = Sign (t)  i = Cast <to = 7> (s)  label = Clip (i, none) }"
    )
    for name, values in {"v": FIRST, "b": SHIFT, **tensors}.items():
        built.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(values), name))
    source, data, out = (tmp_path / name for name in ("labels.onnx", "data.npz", "attacked.npz"))
    onnx.save(built, source)
    y = (logits(features(X)) > 0).astype(np.int64)
    y[::7, 0] ^= 1
    np.savez(data, x=X, y=y)
    shared = {"device": "cpu", "accept_accuracy": True}
    result = attack(source, data, out, AttackSetting(eps=EPS, attack="fgsm", **shared))
    assert result.clean.value == pytest.approx(1 - np.ceil(240 / 7) / 240)
    moved = np.load(out)["x"]
    left = ((logits(features(moved.astype(np.float64))) > 0) == y).all(axis=1)
    assert result.attacked.value == pytest.approx(left.mean())
    # Of the sum of all labels' binary losses, in double.
    phi = features(X.astype(np.float64))
    error = 1 / (1 + np.exp(-logits(phi))) - y
    exact = (error @ HEAD.T * (1 - phi**2)) @ FIRST.T
    inside = (X > EPS) & (X < 1 - EPS) & (np.abs(exact) > 1e-5)
    np.testing.assert_array_equal(np.sign(moved - X)[inside], np.sign(exact)[inside])
    setting = HardenSetting(eps=EPS, mask_ratio=0.3, evaluation_steps=2, **shared)
    harden(source, data, tmp_path / "hardened.onnx", setting)
    assert verify(tmp_path / "hardened.onnx", source, "cpu").faults == ()
