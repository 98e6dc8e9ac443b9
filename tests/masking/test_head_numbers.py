"""W and b of heads that are no plain layer: on quantised numbers, and classifiers of one node.

What is read is compared with numbers that the head was made of.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.numpy_helper import from_array

from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head_search import find_head
from cloakify.masking.linear_head import LinearHead, read_head
from tests.support.support_vectors import DIMENSIONS, Machine

DEPTH, CLASSES = 8, 3


def model(body: str, x: str = "N, 8", **constants: np.ndarray) -> onnx.ModelProto:
    built = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1, "ai.onnx.ml" : 3]> '
        f"net (float[{x}] x) => (float[N, {CLASSES}] y) {{ f = Identity (x)  {body} }}"
    )
    built.graph.initializer.extend(from_array(np.asarray(v), n) for n, v in constants.items())
    return built


@settings(max_examples=40)
@given(
    scale=st.floats(1e-3, 10),
    kind=st.sampled_from([np.uint8, np.int8]),
    share=st.floats(0, 1),
    in_nodes=st.booleans(),
    convolution=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_is_quantised_by_a_fixed_scale_is_read_within_its_range(
    scale: float, kind: type, share: float, in_nodes: bool, convolution: bool, seed: int
) -> None:
    """Wherever 0 lies among the numbers there are: to the side that has more of them."""
    rng = np.random.default_rng(seed)
    ends = np.iinfo(kind)
    zero = round(ends.min + share * (ends.max - ends.min))
    stored = rng.integers(-127, 128, (DEPTH, CLASSES)).astype(np.int8)
    bias = rng.standard_normal(CLASSES).astype(np.float32)
    constants = {
        "fs": np.float32(scale),
        "fz": kind(zero),
        "ws": np.float32(0.01),
        "wz": np.int8(0),
        "b": bias,
    }
    if convolution:
        product = "i = ConvInteger (q, k, fz, wz)"
        end = "g = GlobalAveragePool (m)  h = Flatten (g)  y = Identity (h)"
        del constants["b"]
        bias = np.zeros(CLASSES)
        constants["k"] = stored.T[..., None, None].copy()
    else:
        product, end = "i = MatMulInteger (q, w, fz, wz)", "y = Add (m, b)"
        constants["w"] = stored
    source = model(
        f"q = QuantizeLinear (f, fs, fz)  {product}  c = Cast <to = 1> (i)  t = Mul (fs, ws)  "
        f"m = Mul (c, t)  {end}",
        "N, 8, 3, 3" if convolution else "N, 8",
        **constants,
    )
    if in_nodes:
        for tensor in source.graph.initializer:
            node = onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
            source.graph.node.insert(0, node)
        del source.graph.initializer[:]
    found = read_head(source, find_head(source).head, 4 if convolution else 2)
    np.testing.assert_allclose(found.weight, stored * 0.01, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-3, atol=1e-3)


@settings(max_examples=30)
@given(
    form=st.sampled_from(["QGemm", "QGemm, turned", "QLinearMatMul", "QLinearConv"]),
    alpha=st.sampled_from([1.0, 0.5]),
    by_column=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_puts_out_quantised_numbers_is_read_off_its_constants(
    form: str, alpha: float, by_column: bool, seed: int
) -> None:
    """These are exact, where what comes out is a few coarse steps."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, 256, (DEPTH, CLASSES)).astype(np.uint8)
    columns = CLASSES if by_column else 1
    scale = rng.uniform(0.01, 0.1, columns).astype(np.float32)
    # One for all columns, or for each.
    zero = np.full(columns, rng.integers(90, 160)).astype(np.uint8)
    real = (stored.astype(float) - zero) * scale
    shaped = scale if by_column else scale[0]
    constants = {
        "fs": np.float32(1 / 16),
        "fz": np.uint8(0),
        "w": stored,
        "ws": shaped,
        "wz": zero if by_column else zero[0],
        "ys": np.float32(4),
        "yz": np.uint8(128),
    }
    if form == "QLinearMatMul":
        product = "p = QLinearMatMul (q, fs, fz, w, ws, wz, ys, yz)"
    elif form == "QLinearConv":
        constants["w"] = stored.T[..., None, None].copy()
        product = "c = QLinearConv (q, fs, fz, w, ws, wz, ys, yz)  p = Flatten (c)"
    else:
        turned = form != "QGemm"
        constants["w"] = stored.T.copy() if turned else stored
        constants["b"] = np.zeros(CLASSES, np.int32)
        product = (
            f"p = com.microsoft.QGemm <transB = {int(turned)}, alpha: float = {alpha}> "
            "(q, fs, fz, w, ws, wz, b, ys, yz)"
        )
        real *= alpha
    source = model(
        f"q = QuantizeLinear (f, fs, fz)  {product}  y = DequantizeLinear (p, ys, yz)",
        "N, 8, 1, 1" if form == "QLinearConv" else "N, 8",
        **constants,
    )
    head = find_head(source).head
    assert head.product and head.features == "f"
    found = read_head(source, head, 4 if form == "QLinearConv" else 2)
    np.testing.assert_allclose(found.weight, real, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.bias, np.zeros(CLASSES))


@pytest.mark.parametrize(("classes", "platt"), [(2, False), (2, True), (3, True), (4, True)])
def test_support_vectors_are_sums_over_the_pairs_of_a_class(classes: int, platt: bool) -> None:
    machine = Machine(classes, "LINEAR", platt=platt)
    source = machine.model()
    found = find_classifier(source)
    x = np.random.default_rng(0).standard_normal((9, DIMENSIONS)).astype(np.float32)
    decisions = machine.decisions(x.astype(float))
    odds = -(machine.a * decisions + machine.b) if platt else decisions
    expected = np.zeros((len(x), classes))
    for place, (first, second) in enumerate(machine.pairs):
        expected[:, first] += odds[:, place]
        expected[:, second] -= odds[:, place]
    read = read_head(source, found.head, 2).of_classes(found.scores)
    np.testing.assert_allclose(read.logits(x), expected, rtol=1e-3, atol=1e-3)


def test_a_linear_classifier_has_its_numbers_in_attributes() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((CLASSES, DEPTH)), rng.standard_normal(CLASSES)
    node = onnx.helper.make_node(
        "LinearClassifier",
        ["f"],
        ["label", "y"],
        "classifier",
        domain="ai.onnx.ml",
        classlabels_ints=range(CLASSES),
        coefficients=weight.ravel(),
        intercepts=bias,
        post_transform="SOFTMAX",
    )
    source = model("y = Identity (f)")
    del source.graph.node[1]
    source.graph.node.append(node)
    read = read_head(source, find_classifier(source).head, 2)
    assert isinstance(read, LinearHead)
    np.testing.assert_allclose(read.weight, weight.T, rtol=1e-6)
    np.testing.assert_allclose(read.bias, bias, rtol=1e-6)


@pytest.mark.parametrize("at_once", [1, 20, 1 << 22])
@pytest.mark.parametrize("kind", ["pooled", "windowed", "whole map"])
def test_maps_are_read_whatever_is_run_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int, kind: str
) -> None:
    """A kernel of several positions counts by its sum where its scores are pooled."""
    monkeypatch.setattr("cloakify.masking.linear_head._AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    size = {"pooled": 1, "windowed": 3, "whole map": 2}[kind]
    kernel = rng.standard_normal((CLASSES, 4, size, size)).astype(np.float32)
    bias = rng.standard_normal(CLASSES).astype(np.float32)
    pads = "<pads = [1, 1, 1, 1]>" if kind == "windowed" else ""
    source = model(
        f"c = Conv {pads} (f, k, b)  g = GlobalAveragePool (c)  y = Flatten (g)",
        "N, 4, 2, 2" if kind == "whole map" else "N, 4, 5, 5",
        k=kernel,
        b=bias,
    )
    head = find_head(source).head
    read = read_head(source, head, 4)
    if head.num_features == 4:
        expected = kernel.sum(axis=(2, 3)).T
    else:
        expected = kernel.reshape(CLASSES, -1).T
    np.testing.assert_allclose(read.weight, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(read.bias, bias, rtol=1e-4, atol=1e-5)
