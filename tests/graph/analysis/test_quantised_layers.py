"""Heads on quantised numbers: masked where the features are floats, and read to the last bit.

The layers are put together here as ONNX Runtime's quantisation writes them; what comes out of a
masked one is compared with the float layer on masked features.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.graph.edit.mask import find_mask, insert_mask, strip_mask
from cloakify.graph.edit.taps import tap
from cloakify.masking.linear_head import by_feature, read_head

DIMENSIONS, CLASSES, BLOCK = 16, 5, 16
GENERATOR = np.random.default_rng(0)
STEP = 0.01
# Weights that their own quantisation does not change.
STORED = GENERATOR.integers(-127, 128, (DIMENSIONS, CLASSES)).astype(np.int8)
WEIGHT = STORED.astype(np.float32) * np.float32(STEP)
BIAS = GENERATOR.integers(-50, 50, CLASSES).astype(np.float32) * np.float32(1 / 64)
MASK = (np.arange(DIMENSIONS) % 3 != 0).astype(np.float32)
X = GENERATOR.normal(size=(20, DIMENSIONS)).astype(np.float32)
# Of features, and of logits: fine, and wide enough.
SCALES = {"fs": 1 / 64, "ys": 1 / 8, "ws": STEP}


def model(body: str, x: str = "N, 16", **constants: np.ndarray) -> onnx.ModelProto:
    built = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]> '
        f"net (float[{x}] x) => (float[N, {CLASSES}] y) {{ f = Relu (x)  {body} }}"
    )
    stored: dict[str, np.ndarray] = {
        **{name: np.array(value, np.float32) for name, value in SCALES.items()},
        "w": STORED,
        "wt": np.ascontiguousarray(STORED.T),
        "wz": np.array(0, np.int8),
        "fz": np.array(0, np.uint8),
        "yz": np.array(128, np.uint8),
        "b": BIAS,
        "bq": np.rint(BIAS / (SCALES["fs"] * STEP)).astype(np.int32),
        "bu": np.rint(BIAS * 8 + 128).astype(np.uint8),
        "k": STORED.T[..., None, None].copy(),
        **constants,
    }
    used = {name for node in built.graph.node for name in node.input}
    built.graph.initializer.extend(from_array(v, n) for n, v in stored.items() if n in used)
    return built


QUANTISE = "q = QuantizeLinear (f, fs, fz)"
BACK = "y = DequantizeLinear (p, ys, yz)"
GEMM = "com.microsoft.QGemm <transB = 1, alpha: float = 1.0> (q, fs, fz, wt, ws, wz, bq, ys, yz)"
DYNAMIC = "q, s, z = DynamicQuantizeLinear (f)  t = Mul (s, ws)"
MAP = "N, 16, 3, 3"
MODELS = {
    "QGemm": model(f"{QUANTISE}  p = {GEMM}  {BACK}"),
    "QGemm to floats": model(
        f"{QUANTISE}  y = com.microsoft.QGemm <transB = 1> (q, fs, fz, wt, ws, wz, bq)"
    ),
    "QGemm behind Flatten": model(
        f"q0 = QuantizeLinear (f, fs, fz)  q = Flatten (q0)  p = {GEMM}  {BACK}"
    ),
    "QLinearMatMul, bias in floats": model(
        f"{QUANTISE}  p = QLinearMatMul (q, fs, fz, w, ws, wz, ys, yz)  "
        "m = DequantizeLinear (p, ys, yz)  y = Add (m, b)"
    ),
    "QLinearMatMul, QLinearAdd": model(
        f"{QUANTISE}  m = QLinearMatMul (q, fs, fz, w, ws, wz, ys, yz)  "
        f"p = com.microsoft.QLinearAdd (m, ys, yz, bu, ys, yz, ys, yz)  {BACK}"
    ),
    "QLinearConv, pooled": model(
        f"{QUANTISE}  c = QLinearConv (q, fs, fz, k, ws, wz, ys, yz, bq)  "
        "g = com.microsoft.QLinearGlobalAveragePool <channels_last = 0> (c, ys, yz, ys, yz)  "
        f"p = Flatten (g)  {BACK}",
        MAP,
    ),
    "MatMulInteger": model(
        f"{DYNAMIC}  i = MatMulInteger (q, w, z, wz)  c = Cast <to = 1> (i)  m = Mul (c, t)  "
        "y = Add (m, b)"
    ),
    "MatMulInteger by a fixed scale": model(
        f"{QUANTISE}  i = MatMulInteger (q, w, fz, wz)  c = Cast <to = 1> (i)  t = Mul (fs, ws)  "
        "m = Mul (c, t)  y = Add (m, b)"
    ),
    "ConvInteger by a fixed scale": model(
        f"{QUANTISE}  i = ConvInteger (q, k, fz, wz)  c = Cast <to = 1> (i)  t = Mul (fs, ws)  "
        "m = Mul (c, t)  g = GlobalAveragePool (m)  h = Flatten (g)  y = Identity (h)",
        MAP,
    ),
    "MatMulIntegerToFloat": model(
        f"{DYNAMIC}  y = com.microsoft.MatMulIntegerToFloat (q, w, s, ws, z, wz, b)"
    ),
    "DynamicQuantizeMatMul": model("y = com.microsoft.DynamicQuantizeMatMul (f, w, ws, wz, b)"),
    "ConvInteger": model(
        f"{DYNAMIC}  i = ConvInteger (q, k, z, wz)  c = Cast <to = 1> (i)  m = Mul (c, t)  "
        "g = GlobalAveragePool (m)  h = Flatten (g)  y = Identity (h)",
        MAP,
    ),
    "QDQ, rounded before its bias": model(
        "m = MatMul (f, wf)  r = QuantizeLinear (m, ys, yz)  n = DequantizeLinear (r, ys, yz)  "
        f"a = Add (n, b)  p = QuantizeLinear (a, ys, yz)  {BACK}",
        wf=WEIGHT,
    ),
    "MatMulNBits": model(
        "m = com.microsoft.MatMulNBits <K = 16, N = 5, bits = 8, block_size = 16> (f, wp, wb)  "
        "y = Add (m, b)",
        wp=(STORED.T.astype(int) + 128).astype(np.uint8).reshape(CLASSES, 1, DIMENSIONS),
        wb=np.full(CLASSES, STEP, np.float32),
    ),
    "FusedMatMul": model(
        "m = com.microsoft.FusedMatMul <transB = 1, alpha: float = 0.5> (f, wf)  y = Add (m, b)",
        wf=2 * WEIGHT.T.copy(),
    ),
    "FusedMatMul, weight first": model(
        "m = com.microsoft.FusedMatMul <transB = 1> (wf, f)  t = Transpose <perm = [1, 0]> (m)  "
        "y = Add (t, b)",
        wf=WEIGHT.T.copy(),
    ),
}
UNBIASED = {"ConvInteger", "ConvInteger by a fixed scale"}
# What rounds its logits, and how coarsely.
ROUNDED = {name: 0.13 for name in MODELS if name.startswith("Q")} | {"QGemm to floats": 0.05}
ROUNDED |= {"QLinearMatMul, bias in floats": 0.13, "QLinearMatMul, QLinearAdd": 0.2}
ROUNDED |= {"QDQ, rounded before its bias": 0.2}


def samples(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, and the features [n, D] that the scores are a linear map of."""
    features = np.clip(X, 0, 3.9).astype(np.float32)
    if "Conv" not in name:
        return features, features
    spread = features[:, :, None, None] * np.linspace(0.5, 1, 9, dtype=np.float32).reshape(3, 3)
    return spread, spread.mean(axis=(2, 3))


def run(built: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_masked_head_is_the_layer_on_masked_features(name):
    source = MODELS[name]
    head = find_head(source).head
    assert (head.features, head.num_features, head.num_classes) == ("f", DIMENSIONS, CLASSES)
    hardened = insert_mask(source, head, MASK, {"mask.sha256": "…"})
    x, features = samples(name)
    bias = BIAS * (name not in UNBIASED)
    expected = (features * MASK) @ WEIGHT + bias
    np.testing.assert_allclose(run(hardened, x), expected, atol=ROUNDED.get(name, 0.05) * 1.5)
    assert find_mask(hardened) is not None
    assert strip_mask(hardened).SerializeToString() == source.SerializeToString()
    assert find_head(hardened).head.node == head.node


def in_nodes(source: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with its constants in `Constant` nodes, as some exporters leave them."""
    kept = onnx.ModelProto()
    kept.CopyFrom(source)
    for tensor in reversed(source.graph.initializer):
        node = onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
        kept.graph.node.insert(0, node)
    del kept.graph.initializer[:]
    return kept


@pytest.mark.parametrize("kept", [lambda source: source, in_nodes])
@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_of_a_head_are_those_of_its_layer(name, kept):
    source = kept(MODELS[name])
    head: Head = find_head(source).head
    x, features = samples(name)
    read = read_head(source, head, x.ndim)
    exact = head.product != "" or name not in ROUNDED
    tolerance = 0.02 if exact else 0.13
    np.testing.assert_allclose(read.weight, WEIGHT, atol=tolerance)
    if head.product:
        np.testing.assert_allclose(read.weight, WEIGHT, atol=1e-6)
    bias = BIAS * (name not in UNBIASED)
    np.testing.assert_allclose(read.bias, bias, atol=ROUNDED.get(name, 1e-5))
    columns = by_feature(x, head)
    columns = columns if columns.ndim == 2 else columns.mean(axis=1)
    np.testing.assert_allclose(columns, features, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_they_are_attacked_by_the_scores_of_the_whole_model(name):
    found = find_classifier(MODELS[name])
    assert found.scores.num_classes == CLASSES
    x, _ = samples(name)
    (node,) = [each for each in MODELS[name].graph.node if found.scores.shipped in each.output]
    assert node.op_type in (
        "Add",
        "DequantizeLinear",
        "QGemm",
        "MatMulIntegerToFloat",
        "Flatten",
        "DynamicQuantizeMatMul",
        "Identity",
    )
    assert run(MODELS[name], x).shape == (len(x), CLASSES)


@pytest.mark.parametrize(
    "body",
    [
        # The features are integers from the input on.
        "q = QuantizeLinear (x, fs, fz)  r = MaxPool <kernel_shape = [3, 3]> (q)  g = Flatten (r)  "
        "p = com.microsoft.QGemm <transB = 1> (g, fs, fz, wt, ws, wz, bq, ys, yz)  " + BACK,
        # A kernel of more than one position.
        "q = QuantizeLinear (f, fs, fz)  c = QLinearConv (q, fs, fz, kk, ws, wz, ys, yz, bq)  "
        "p = Flatten (c)  " + BACK,
    ],
)
def test_what_has_no_features_in_floats_is_refused_as_that(body):
    kernel = np.ones((CLASSES, DIMENSIONS, 3, 3), np.int8)
    source = model(body, MAP, kk=kernel)
    with pytest.raises(HeadError, match=r"reads or makes quantised numbers alone.*QDQ"):
        find_head(source)
    assert find_classifier(source, needs_head=False).scores.shipped == "y"


@pytest.mark.parametrize("kept", [lambda source: source, in_nodes])
@pytest.mark.parametrize(("bend", "task"), [("Softmax", "single"), ("Sigmoid", "multilabel")])
def test_scores_before_a_quantised_softmax_are_judged_as_floats(bend, task, kept):
    more = "<axis = 1, opset = 17>" if bend == "Softmax" else ""
    source = model(
        f"{QUANTISE}  p = {GEMM}  b = com.microsoft.QLinear{bend} {more} (p, ys, yz, us, uz)  "
        "y = DequantizeLinear (b, us, uz)",
        us=np.array(1 / 256, np.float32),
        uz=np.array(0, np.uint8),
    )
    source = kept(source)
    found = find_classifier(source)
    head = found.head
    assert head is not None
    assert (head.features, head.linear, found.scores.task) == ("f", "p", task)
    x = np.clip(X, 0, 3.9)
    judged = with_class_scores(source, found)
    logits = run(tap(judged, [found.scores.logits]), x)
    np.testing.assert_allclose(logits, x @ WEIGHT + BIAS, atol=0.1)
    read = read_head(source, head, 2)
    np.testing.assert_allclose(read.weight, WEIGHT, atol=1e-6)
    np.testing.assert_allclose(read.bias, BIAS, atol=0.07)
    hardened = insert_mask(source, head, MASK, {})
    masked = run(tap(with_class_scores(hardened, found), [found.scores.logits]), x)
    np.testing.assert_allclose(masked, (x * MASK) @ WEIGHT + BIAS, atol=0.1)


def test_features_that_are_never_positive_are_read_below_zero():
    source = model(
        "n = Neg (f)  q = QuantizeLinear (n, fs, o)  i = MatMulInteger (q, w, o, wz)  "
        "c = Cast <to = 1> (i)  t = Mul (fs, ws)  m = Mul (c, t)  y = Add (m, b)",
        o=np.array(255, np.uint8),
    )
    head = find_head(source).head
    assert head.features == "n"
    read = read_head(source, head, 2)
    np.testing.assert_allclose(read.weight, WEIGHT, atol=1e-6)
    np.testing.assert_allclose(read.bias, BIAS, atol=1e-6)
