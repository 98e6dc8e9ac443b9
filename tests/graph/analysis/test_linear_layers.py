"""Linear heads in other clothes: found, masked, and what the mask does is what it should."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.attacks.target import Target
from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.edit.mask import insert_mask
from cloakify.masking.linear_head import by_feature, read_head
from cloakify.runtime import Device

DIMENSIONS, CLASSES = 6, 4
GENERATOR = np.random.default_rng(0)
WEIGHT = GENERATOR.normal(size=(DIMENSIONS, CLASSES)).astype(np.float32)
BIAS = GENERATOR.normal(size=CLASSES).astype(np.float32)


def einsum(equation: str, operands: str, turned: bool) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, {DIMENSIONS}] x) => (float[N, {CLASSES}] y) "
        f'{{ f = Relu (x)  e = Einsum <equation = "{equation}"> ({operands})  y = Add (e, b) }}'
    )
    weight = WEIGHT.T.copy() if turned else WEIGHT
    model.graph.initializer.extend(
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(BIAS, "b")]
    )
    return model


def dynamic() -> onnx.ModelProto:
    """As `onnxruntime.quantization.quantize_dynamic` writes a Gemm."""
    scale = np.float32(np.abs(WEIGHT).max() / 127)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, {DIMENSIONS}] x) => (float[N, {CLASSES}] y) "
        "{ f = Relu (x)  q, s, z = DynamicQuantizeLinear (f)  t = Mul (s, k) "
        "i = MatMulInteger (q, w, z, v)  c = Cast <to = 1> (i)  m = Mul (c, t)  y = Add (m, b) }"
    )
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name)
        for name, array in {
            "w": np.rint(WEIGHT / scale).astype(np.int8),
            "k": np.array(scale),
            "v": np.array(0, np.int8),
            "b": BIAS,
        }.items()
    )
    return model


def turned() -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, {DIMENSIONS}] x) => (float[N, {CLASSES}] y) "
        "{ f = Relu (x)  t = Transpose <perm = [1, 0]> (f)  p = MatMul (w, t)  "
        "s = Transpose <perm = [1, 0]> (p)  y = Add (s, b) }"
    )
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(WEIGHT.T.copy(), "w"),
            onnx.numpy_helper.from_array(BIAS, "b"),
        ]
    )
    return model


def weight_first() -> onnx.ModelProto:
    """(W φᵀ + b)ᵀ, turned by the product itself."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, {DIMENSIONS}] x) => (float[N, {CLASSES}] y) "
        "{ f = Relu (x)  p = Gemm <transB = 1> (w, f, b)  y = Transpose <perm = [1, 0]> (p) }"
    )
    tensors = {"w": WEIGHT.T.copy(), "b": BIAS[:, None].copy()}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()
    )
    return model


def turned_einsum() -> onnx.ModelProto:
    model = einsum("nd,cd->cn", "f, w", True)
    model.graph.node[-1].input[0] = "t"
    turn = onnx.helper.make_node("Transpose", ["e"], ["t"], perm=[1, 0])
    model.graph.node.insert(2, turn)
    return model


MODELS = {
    "turned": (turned(), 1e-5),
    "weight first": (weight_first(), 1e-5),
    "nd,cd->cn, turned": (turned_einsum(), 1e-5),
    "...d,dc->...c": (einsum("...d,dc->...c", "f, w", False), 1e-5),
    "bd,dc": (einsum("bd,dc", "f, w", False), 1e-5),
    "nd,dc->nc": (einsum("nd,dc->nc", "f, w", False), 1e-5),
    "nd,cd->nc": (einsum("nd,cd->nc", "f, w", True), 1e-5),
    "ij,kj->ik": (einsum("ij,kj->ik", "f, w", True), 1e-5),
    "dc,nd->nc": (einsum("dc,nd->nc", "w, f", False), 1e-5),
    "dynamic": (dynamic(), 0.1),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_masked_head_is_the_head_of_masked_features(name: str) -> None:
    model, tolerance = MODELS[name]
    head = find_head(model).head
    assert (head.features, head.linear, head.num_features) == ("f", "y", DIMENSIONS)
    assert (head.num_classes, head.logits) == (CLASSES, "y")
    x = np.random.default_rng(1).normal(size=(20, DIMENSIONS)).astype(np.float32)
    mask = np.array([1, 0, 1, 0, 0, 1], np.float32)
    hardened = insert_mask(model, head, mask, {})
    onnx.checker.check_model(hardened)
    session = ort.InferenceSession(hardened.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = (np.maximum(x, 0) * mask) @ WEIGHT + BIAS
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=tolerance)
    linear = read_head(model, head, x.ndim)
    np.testing.assert_allclose(linear.weight, WEIGHT, atol=tolerance / 5)
    np.testing.assert_allclose(linear.bias, BIAS, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "operands"),
    [("nd,dc->cn", "f, w"), ("nd,nc->nc", "f, f"), ("nd,dc->n", "f, w"), ("nd,dc->nd", "f, w")],
)
def test_other_sums_are_no_head(equation: str, operands: str) -> None:
    model = einsum(equation, operands, False)
    del model.graph.node[-1:]
    model.graph.output[0].name = "e"
    with pytest.raises(HeadError):
        find_head(model)


def test_features_of_its_own_for_each_class_are_no_positions_of_one_layer() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> f (float[N, 3, 4] x) => (float[N, 3] y)
        <float[3, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
        { f = Relu (x)  y = Einsum <equation = "ncd,cd->nc"> (f, w) }"""
    )
    with pytest.raises(HeadError, match="no linear layer"):
        find_head(model)


def linear_classifier(transform: str) -> onnx.ModelProto:
    """As skl2onnx writes a linear model."""
    rows = ", ".join(f"{value!r}" for value in WEIGHT.T.ravel().tolist())
    bias = ", ".join(f"{value!r}" for value in BIAS.tolist())
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 1]> '
        f"net (float[N, {DIMENSIONS}] x) => (int64[N] label, float[N, {CLASSES}] y) "
        f"{{ f = Relu (x)  label, y = ai.onnx.ml.LinearClassifier <classlabels_ints = [5, 6, 7, 9],"
        f' coefficients = [{rows}], intercepts = [{bias}], post_transform = "{transform}"> (f) }}'
    )


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_a_linear_classifier_is_attacked_at_its_logits(transform: str) -> None:
    """Whatever comes out, losses and gradients are those of the linear scores."""
    model = linear_classifier(transform)
    classifier = find_classifier(model)
    head = classifier.head
    assert (head.num_features, head.num_classes, head.features) == (DIMENSIONS, CLASSES, "f")
    x = np.abs(np.random.default_rng(1).normal(size=(9, DIMENSIONS))).astype(np.float32)
    y = np.arange(9) % CLASSES
    target = Target(model, find_input(model), classifier.scores, Device("cpu"))
    found = target.evaluate(x, y)
    logits = x @ WEIGHT + BIAS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = powers / powers.sum(axis=1, keepdims=True)
    error[np.arange(9), y] -= 1
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    np.testing.assert_allclose(found.gradient, error @ WEIGHT.T, atol=1e-4)
    np.testing.assert_array_equal(target.logits(x).argmax(axis=1), logits.argmax(axis=1))
    linear = read_head(model, head, x.ndim)
    np.testing.assert_allclose(linear.weight, WEIGHT, atol=1e-6)
    np.testing.assert_allclose(linear.bias, BIAS, atol=1e-6)
    mask = np.array([1, 0, 1, 0, 0, 1], np.float32)
    hardened = insert_mask(model, head, mask, {})
    session = ort.InferenceSession(hardened.SerializeToString(), providers=["CPUExecutionProvider"])
    labels = session.run(["label"], {"x": x})[0]
    expected = np.array([5, 6, 7, 9])[((x * mask) @ WEIGHT + BIAS).argmax(axis=1)]
    np.testing.assert_array_equal(labels, expected)


MAPS = {
    # The kernel, what follows, and the weight's shape for D features of a map.
    "window": ("c = Conv <pads = [1, 1, 1, 1]> (f, w, b)", (CLASSES, DIMENSIONS, 3, 3)),
    "stride": ("c = Conv <strides = [2, 2]> (f, w, b)", (CLASSES, DIMENSIONS, 3, 3)),
    "einsum": ('c = Einsum <equation = "ndhw,cd->nchw"> (f, w)', (CLASSES, DIMENSIONS)),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_scores_that_are_pooled_are_masked_by_channel(name: str) -> None:
    body, shape = MAPS[name]
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[N, {DIMENSIONS}, 7, 7] x) => (float[N, {CLASSES}] y) "
        f"{{ f = Relu (x)  {body}  p = GlobalAveragePool (c)  y = Flatten (p) }}"
    )
    weight = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    for tensor, values in (("w", weight), ("b", BIAS)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, tensor))
    found = find_classifier(model)
    head = found.head
    assert head is not None
    assert (head.num_features, head.num_classes, head.logits) == (DIMENSIONS, CLASSES, "y")
    x = np.random.default_rng(1).normal(size=(5, DIMENSIONS, 7, 7)).astype(np.float32)
    mask = np.array([1, 0, 1, 0, 0, 1], np.float32)
    session, masked = (
        ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        for each in (model, insert_mask(model, head, mask, {}))
    )
    zeroed = np.maximum(x, 0) * mask[:, None, None]
    np.testing.assert_allclose(
        masked.run(None, {"x": x})[0], session.run(None, {"x": zeroed})[0], atol=1e-5
    )
    linear = read_head(model, head, x.ndim)
    summed = weight if weight.ndim == 2 else weight.sum(axis=(2, 3))
    np.testing.assert_allclose(linear.weight, summed.T, atol=1e-4)


def test_what_a_layer_before_others_puts_out_is_no_score() -> None:
    """Products of features with class vectors that the sample itself leads to."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[N, 3] x) => (float[N, {CLASSES}] y) "
        "<int64[1] one = {1}, int64[1] two = {2}, "
        f"int64[3] s = {{0, {CLASSES}, {DIMENSIONS}}}> "
        "{ h = MatMul (x, v)  u = Unsqueeze (h, one)  k = Abs (h)  t = Concat <axis = 1> "
        f"({', '.join('k' * CLASSES)})  w = Reshape (t, s)  m = Mul (u, w)  "
        "y = ReduceSum <keepdims = 0> (m, two) }"
    )
    values = np.random.default_rng(0).normal(size=(3, DIMENSIONS)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "v"))
    with pytest.raises(HeadError, match=f"answers with {CLASSES} numbers.*'h', puts out 6"):
        find_classifier(model)
    assert find_classifier(model, needs_head=False).scores.shipped == "y"


def test_a_kernel_as_large_as_the_map_takes_every_position_for_a_feature() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, 3, 2, 1] x) => (float[N, {CLASSES}] y) "
        "{ f = Relu (x)  c = Conv (f, w, b)  y = Flatten (c) }"
    )
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(WEIGHT.T.reshape(CLASSES, 3, 2, 1).copy(), "w"),
            onnx.numpy_helper.from_array(BIAS, "b"),
        ]
    )
    head = find_head(model).head
    assert (head.num_features, head.num_classes, head.kernel) == (DIMENSIONS, CLASSES, (2, 1))
    x = np.random.default_rng(1).normal(size=(20, 3, 2, 1)).astype(np.float32)
    mask = np.array([1, 0, 1, 0, 0, 1], np.float32)
    hardened = insert_mask(model, head, mask, {})
    onnx.checker.check_model(hardened)
    session = ort.InferenceSession(hardened.SerializeToString(), providers=["CPUExecutionProvider"])
    features = np.maximum(x, 0)
    expected = (features.reshape(20, -1) * mask) @ WEIGHT + BIAS
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=1e-5)
    linear = read_head(model, head, features.ndim)
    np.testing.assert_allclose(linear.weight, WEIGHT, atol=1e-5)
    np.testing.assert_array_equal(by_feature(features, head), features.reshape(20, -1))


@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("group", [1, 2])
def test_maps_of_any_rank_are_masked_by_channel(rank: int, group: int) -> None:
    """Sequences, images and volumes; a convolution in groups is a linear map as well."""
    sizes = [3, 4, 5][: rank - 2]
    x_type = ", ".join(["N", str(DIMENSIONS), *map(str, sizes)])
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[{x_type}] x) => (float[N, {CLASSES}] y) "
        f"{{ f = Relu (x)  c = Conv <group = {group}> (f, w)  p = GlobalAveragePool (c)  "
        "y = Flatten (p) }"
    )
    shape = (CLASSES, DIMENSIONS // group, *[1] * len(sizes))
    weight = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    head = find_head(model).head
    assert head.num_features == DIMENSIONS
    x = np.random.default_rng(1).normal(size=(3, DIMENSIONS, *sizes)).astype(np.float32)
    mask = np.array([1, 0, 1, 0, 0, 1], np.float32)
    hardened = insert_mask(model, head, mask, {})
    session = ort.InferenceSession(hardened.SerializeToString(), providers=["CPUExecutionProvider"])
    whole = np.zeros((CLASSES, DIMENSIONS), np.float32)
    for label in range(CLASSES):
        start = (label * group // CLASSES) * (DIMENSIONS // group)
        whole[label, start : start + DIMENSIONS // group] = weight[label].reshape(-1)
    pooled = np.maximum(x, 0).reshape(3, DIMENSIONS, -1).mean(axis=2)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], pooled * mask @ whole.T, atol=1e-5)
    np.testing.assert_allclose(read_head(model, head, rank).weight, whole.T, atol=1e-5)


def test_a_gated_unit_is_no_choice_of_its_layer_s_scores() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3] x) => (float[N, 4] y) '
        "{ l = MatMul (x, w)  a, b = Split <axis = 1> (l)  s = Sigmoid (b)  y = Mul (a, s) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 8), np.float32), "w"))
    with pytest.raises(HeadError, match=r"answers with 4 numbers.*puts out 8"):
        find_classifier(model)
    found = find_classifier(model, needs_head=False)
    assert (found.scores.shipped, found.scores.num_classes) == ("y", 4)


def test_one_score_that_becomes_several_is_no_logit_of_two_classes() -> None:
    """As ordinal models have it: one number, and a bound for each step."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3] x) => (float[N, 4] y) '
        "<float[4] bounds = {0, 1, 2, 3}> "
        "{ l = MatMul (x, w)  s = Add (l, bounds)  t = Relu (s)  y = Sigmoid (t) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 1), np.float32), "w"))
    with pytest.raises(HeadError, match="the one score of 'l' against 4 bounds"):
        find_classifier(model)


@pytest.mark.parametrize(
    ("ending", "outputs"),
    [
        ("u = Add (z, b)  y = Sigmoid (u)", "float[N, 3] y"),
        ("g = Greater (z, b)  c = Cast <to = 7> (g)  y = ReduceSum <keepdims = 0> (c, last)", ""),
        ("u = Sub (z, b)  s = Sigmoid (u)  y = ReduceSum <keepdims = 0> (s, last)", "float[N] y"),
    ],
)
def test_several_bounds_on_one_score_are_no_bias_of_it(ending: str, outputs: str) -> None:
    """Ordinal answers: a sample is beyond each bound that its one score is above of."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, {DIMENSIONS}] x) => ({outputs or 'int64[N] y'}) "
        f"<float[3] b = {{1, 0, -1}}, int64[1] last = {{1}}> "
        f"{{ f = Relu (x)  z = MatMul (f, w)  {ending} }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT[:, :1].copy(), "w"))
    with pytest.raises(HeadError, match="the one score of 'z' against 3 bounds"):
        find_head(model)
