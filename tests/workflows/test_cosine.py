"""Cosine heads are masked before the length is taken: against the same network in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import insert_mask, strip_mask
from cloakify.masking.linear_head import read_head
from cloakify.settings import AttackSetting
from cloakify.workflows.attack import attack
from tests.support.ranked import hardened_by_ranking

INPUTS, WIDTH, CLASSES, SCALE, EPS = 10, 12, 4, 6.0, 0.05
_RNG = np.random.default_rng(3)
FIRST = _RNG.normal(size=(INPUTS, WIDTH)) * 1.5
SHIFT = -FIRST.sum(axis=0) / 2
CENTRES = _RNG.normal(size=(WIDTH, CLASSES))
CENTRES /= np.linalg.norm(CENTRES, axis=0)
X = _RNG.random((240, INPUTS)).astype(np.float32)

NORMS = {
    "LpNormalization": "u = LpNormalization <axis = -1> (f)",
    "as torch writes it": (
        "n = ReduceL2 <axes = [1], keepdims = 1> (f)  c = Clip (n, floor)  s = Shape (f)  "
        "e = Expand (c, s)  u = Div (f, e)"
    ),
    "as torch's newer exporter writes it": (
        "n = ReduceL2 <keepdims = 1> (f, last)  c = Clip (n, floor)  "
        "k = Shape <start = 0, end = 1> (x)  s = Concat <axis = 0> (k, width)  e = Expand (c, s)  "
        "u = Div (f, e)"
    ),
    "as TensorFlow writes it": (
        "q = Mul (f, f)  n = ReduceSum <keepdims = 1> (q, last)  c = Max (n, floor)  "
        "r = Sqrt (c)  i = Reciprocal (r)  u = Mul (i, f)"
    ),
    "by its square": (
        "n = ReduceSumSquare <axes = [-1], keepdims = 1> (f)  r = Sqrt (n)  a = Add (r, floor)  "
        "u = Div (f, a)"
    ),
}


def model(norm: str, layer: str = "z = MatMul (u, w)  y = Mul (z, scale)") -> onnx.ModelProto:
    built = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {18 if "(f, last)" in norm else 17}]> '
        f"net (float[N, {INPUTS}] x) => (float[N, {CLASSES}] y) "
        f"<float scale = {{{SCALE}}}, float floor = {{1e-12}}, int64[1] last = {{-1}}, "
        f"int64[1] width = {{{WIDTH}}}> "
        f"{{ h = Gemm (x, v, b)  f = Tanh (h)  {norm}  {layer} }}"
    )
    for name, values in (("v", FIRST), ("b", SHIFT), ("w", CENTRES), ("bias", np.ones(CLASSES))):
        built.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(values), name))
    return built


def features(x: NDArray[np.floating]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.tanh(x @ FIRST + SHIFT)
    return found


def logits(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = phi / np.linalg.norm(phi, axis=1, keepdims=True)
    return SCALE * unit @ CENTRES


def loss(x: NDArray[np.floating], y: NDArray[np.int64]) -> NDArray[np.float64]:
    z = logits(features(x))
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]


def slope(x: NDArray[np.floating], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Central differences in double."""
    moves = np.eye(INPUTS) * 1e-6
    pairs = [(loss(x + move, y) - loss(x - move, y)) / 2e-6 for move in moves]
    return np.stack(pairs, axis=1)


def run(built: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return found


@pytest.fixture(params=NORMS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    onnx.save(model(NORMS[request.param]), tmp_path / "cosine.onnx")
    labels = logits(features(X)).argmax(axis=1)
    labels[::7] = (labels[::7] + 1) % CLASSES
    np.savez(tmp_path / "data.npz", x=X, y=labels)
    return tmp_path / "cosine.onnx"


def test_what_is_masked_is_what_the_length_is_taken_of(source: Path) -> None:
    built = onnx.load(source)
    head = find_head(built).head
    assert (head.features, head.num_features, head.logits) == ("f", WIDTH, "y")
    mask = (np.arange(WIDTH) % 3 != 0).astype(np.float32)
    hardened = insert_mask(built, head, mask, {})
    expected = logits(features(X) * mask)
    np.testing.assert_allclose(run(hardened, X), expected, rtol=1e-4, atol=1e-4)
    assert strip_mask(hardened).SerializeToString() == built.SerializeToString()
    linear = read_head(built, head, 2)
    found = linear.logits(np.float32(features(X)), mask)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_hardened_by_the_ranking_of_these_features_and_proven(source: Path) -> None:
    hardened_by_ranking(source, features, slope, EPS)


def test_attacked_along_the_gradient_of_the_cosines(source: Path) -> None:
    out = source.with_name("attacked.npz")
    setting = AttackSetting(eps=EPS, attack="fgsm", device="cpu", accept_accuracy=True)
    attack(source, source.with_name("data.npz"), out, setting)
    with np.load(out) as made, np.load(source.with_name("data.npz")) as data:
        x, y, moved = data["x"], data["y"], made["x"]
    exact = slope(x.astype(np.float64), y)
    inside = (x > EPS) & (x < 1 - EPS) & (np.abs(exact) > 1e-5)
    assert inside.mean() > 0.7
    np.testing.assert_array_equal(np.sign(moved - x)[inside], np.sign(exact)[inside])


@pytest.mark.parametrize(
    "layer", ["z = Gemm (u, w, bias)  y = Mul (z, scale)", "z = MatMul (u, w)  y = Add (z, bias)"]
)
def test_scores_that_something_is_added_to_are_masked_behind(layer: str) -> None:
    """There the length counts: more of what is added is left where features are masked."""
    head = find_head(model(NORMS["LpNormalization"], layer)).head
    assert (head.features, head.read_by) == ("u", ())


@pytest.mark.parametrize(
    "norm",
    [
        # Along the samples; no length; another value's length; features that others read as well.
        "u = LpNormalization <axis = 0> (f)",
        "u = LpNormalization <axis = -1, p = 1> (f)",
        "n = ReduceSum <keepdims = 1> (f, last)  u = Div (f, n)",
        "n = ReduceL2 <axes = [1], keepdims = 1> (h)  u = Div (f, n)",
    ],
)
def test_what_is_no_length_is_none(norm: str) -> None:
    assert find_head(model(norm)).head.features == "u"
