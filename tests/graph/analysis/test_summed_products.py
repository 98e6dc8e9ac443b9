"""Linear layers written out as products and sums, of one vector, or with repeated weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.mask import insert_mask
from cloakify.masking.linear_head import read_head

DIMENSIONS, CLASSES = 6, 4
GENERATOR = np.random.default_rng(0)
WEIGHT = GENERATOR.normal(size=(DIMENSIONS, CLASSES)).astype(np.float32)
BIAS = GENERATOR.normal(size=CLASSES).astype(np.float32)
UNIT = WEIGHT / np.linalg.norm(WEIGHT, axis=0)
TENSORS = {
    "w": WEIGHT,
    "t": WEIGHT.T.copy(),
    "unit": UNIT.T.copy(),
    "squares": (UNIT.T**2).sum(axis=1),
    "b": BIAS,
    "vector": WEIGHT[:, 0].copy(),
    "offset": BIAS[:1].copy(),
    "first": np.array([1]),
    "last": np.array([-1]),
    "second": np.array([2]),
    "zero": np.array([0]),
    "sizes": np.array([CLASSES, DIMENSIONS]),
    "turned_sizes": np.array([DIMENSIONS, CLASSES]),
}
ROW, COLUMN = "r = Unsqueeze (f, first)", "r = Unsqueeze (f, second)"
COUNT = "n = Shape <end = 1> (f)  s = Concat <axis = 0> (n, {})"
SPREAD = COUNT.format("sizes") + "  v = Expand (t, s)"
SPREAD_TURNED = COUNT.format("turned_sizes") + "  v = Expand (w, s)"
SUM = "z = ReduceSum <keepdims = 0> (p, {})"
# By form: what is done to the features f, the tensor that is masked, and the bias.
FORMS = {
    "rows": (f"{ROW}  p = Mul (r, t)  {SUM.format('last')}  y = Add (z, b)", "r"),
    "weight first": (f"{ROW}  p = Mul (t, r)  {SUM.format('second')}  y = Add (z, b)", "r"),
    "columns": (f"{COLUMN}  p = Mul (r, w)  {SUM.format('first')}  y = Add (z, b)", "r"),
    "an axis kept": (
        f"{COLUMN}  p = Mul (r, w)  q = ReduceSum (p, first)  z = Squeeze (q, first)  "
        "y = Add (z, b)",
        "r",
    ),
    "weights repeated": (
        f"{ROW}  {SPREAD}  p = Mul (r, v)  {SUM.format('last')}  y = Add (z, b)",
        "r",
    ),
    "features repeated": (
        f"{ROW}  {COUNT.format('sizes')}  e = Expand (r, s)  p = Mul (e, t)  "
        f"{SUM.format('last')}  y = Add (z, b)",
        "r",
    ),
    "product of repeated weights": (
        f"{ROW}  {SPREAD_TURNED}  q = MatMul (r, v)  z = Squeeze (q, first)  y = Add (z, b)",
        "r",
    ),
    "repeated weights first": (
        f"{COLUMN}  {SPREAD}  q = MatMul (v, r)  z = Squeeze (q, second)  y = Add (z, b)",
        "r",
    ),
}
COSINES = {
    "divided before": (
        f"{ROW}  l = ReduceL2 (r, last)  u = Div (r, l)  p = Mul (u, unit)  "
        f"y = ReduceSum <keepdims = 0> (p, last)"
    ),
    "divided before, repeated": (
        f"{ROW}  {COUNT.format('sizes')}  e = Expand (r, s)  l = ReduceL2 (e, last)  "
        "u = Div (e, l)  p = Mul (u, unit)  y = ReduceSum <keepdims = 0> (p, last)"
    ),
    "divided after": (
        f"{ROW}  p = Mul (r, unit)  {SUM.format('last')}  q = Mul (r, r)  "
        "k = ReduceSum <keepdims = 0> (q, last)  m = Mul (k, squares)  l = Sqrt (m)  y = Div (z, l)"
    ),
}
ONE_SCORE = {
    "product": "z = MatMul (f, vector)  y = Add (z, offset)",
    "sum": "p = Mul (f, vector)  z = ReduceSum <keepdims = 0> (p, last)  y = Add (z, offset)",
    "sum, an axis kept": "p = Mul (vector, f)  z = ReduceSum (p, last)  y = Add (z, offset)",
    "einsum": 'z = Einsum <equation = "nd,d->n"> (f, vector)  y = Add (z, offset)',
}


def model_of(body: str, result: str = f"float[N, {CLASSES}] y") -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, {DIMENSIONS}] x) => ({result}) {{ f = Relu (x)  {body} }}"
    )
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in TENSORS.items() if name in read
    )
    return model


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


masks = hnp.arrays(np.float32, DIMENSIONS, elements=st.floats(0, 1, width=16))


@pytest.mark.parametrize("form", FORMS)
@given(mask=masks)
def test_a_mask_is_put_before_a_layer_that_is_written_out(form: str, mask: np.ndarray) -> None:
    body, features = FORMS[form]
    model = model_of(body)
    head = find_head(model).head
    assert (head.features, head.num_features, head.num_classes) == (features, DIMENSIONS, CLASSES)
    x = np.random.default_rng(1).normal(size=(5, DIMENSIONS)).astype(np.float32)
    expected = (np.maximum(x, 0) * mask) @ WEIGHT + BIAS
    np.testing.assert_allclose(answers(insert_mask(model, head, mask, {}), x), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_its_weights_are_read(form: str) -> None:
    model = model_of(FORMS[form][0])
    linear = read_head(model, find_head(model).head, 3)
    np.testing.assert_allclose(linear.weight, WEIGHT, atol=1e-5)
    np.testing.assert_allclose(linear.bias, BIAS, atol=1e-5)


@pytest.mark.parametrize("form", COSINES)
@given(mask=hnp.arrays(np.float32, DIMENSIONS, elements=st.floats(0.25, 1, width=16)))
def test_cosines_are_masked_before_their_length_is_taken(form: str, mask: np.ndarray) -> None:
    model = model_of(COSINES[form])
    head = find_head(model).head
    assert (head.features, head.cosine) == ("r", True)
    x = np.random.default_rng(1).random((5, DIMENSIONS)).astype(np.float32) + 0.1
    masked = x * mask
    expected = masked @ UNIT / np.linalg.norm(masked, axis=1, keepdims=True)
    np.testing.assert_allclose(answers(insert_mask(model, head, mask, {}), x), expected, atol=1e-5)
    np.testing.assert_allclose(read_head(model, head, 3).weight, UNIT, atol=1e-5)


@pytest.mark.parametrize("form", ONE_SCORE)
@pytest.mark.parametrize("ending", ["", "s = Sigmoid (y)", "s = Unsqueeze (y, first)"])
@given(mask=masks)
def test_a_vector_s_score_is_the_logit_of_two_classes(
    form: str, ending: str, mask: np.ndarray
) -> None:
    kept = form.endswith("kept")
    sizes = "N, 1" if kept or "Unsqueeze" in ending else "N"
    if kept and "Unsqueeze" in ending:
        sizes = "N, 1, 1"
    body = f"{ONE_SCORE[form]}  {ending}"
    model = model_of(body, f"float[{sizes}] {'s' if ending else 'y'}")
    classifier = find_classifier(model)
    head = classifier.head
    assert head is not None
    assert (head.features, head.num_features, head.num_classes) == ("f", DIMENSIONS, 1)
    assert classifier.scores.task is Task.BINARY
    hardened = insert_mask(model, head, mask, {})
    x = np.random.default_rng(1).normal(size=(5, DIMENSIONS)).astype(np.float32)
    hardened.graph.output.append(onnx.ValueInfoProto(name="y"))
    logit = (np.maximum(x, 0) * mask) @ WEIGHT[:, 0] + BIAS[0]
    session = ort.InferenceSession(hardened.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["y"], {"x": x})[0].reshape(-1), logit, atol=1e-5)
    linear = read_head(model, head, 2)
    np.testing.assert_allclose(linear.weight[:, 0], WEIGHT[:, 0], atol=1e-5)


def test_vectors_side_by_side_are_one_head() -> None:
    rows = "  ".join(
        f"p{k} = Mul (f, v{k})  z{k} = ReduceSum <keepdims = 0> (p{k}, last)  "
        f"c{k} = Unsqueeze (z{k}, first)"
        for k in range(CLASSES)
    )
    parts = ", ".join(f"c{k}" for k in range(CLASSES))
    model = model_of(f"{rows}  y = Concat <axis = 1> ({parts})")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(WEIGHT[:, k].copy(), f"v{k}") for k in range(CLASSES)
    )
    head = find_head(model).head
    mask = np.array([1, 0, 1, 0, 0, 1], np.float32)
    x = np.random.default_rng(1).normal(size=(5, DIMENSIONS)).astype(np.float32)
    expected = (np.maximum(x, 0) * mask) @ WEIGHT
    np.testing.assert_allclose(answers(insert_mask(model, head, mask, {}), x), expected, atol=1e-5)


def test_features_of_its_own_for_each_class_are_no_layer() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> f (float[N, 3, 4] x) => (float[N, 3] y)
        <float[3, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, int64[1] last = {-1}>
        { f = Relu (x)  p = Mul (f, w)  y = ReduceSum <keepdims = 0> (p, last) }"""
    )
    assert not found(model)


def test_a_sum_over_classes_is_no_layer() -> None:
    body = f"{ROW}  p = Mul (r, t)  y = ReduceSum <keepdims = 0> (p, first)"
    assert not found(model_of(body, f"float[N, {DIMENSIONS}] y"))


def found(model: onnx.ModelProto) -> list[Head]:
    """List the linear layers of a model."""
    try:
        search = find_head(model)
    except HeadError:
        return []
    return [search.head, *search.alternatives]


def test_weighted_votes_of_layers_are_no_features() -> None:
    model = model_of(
        "a = MatMul (f, w)  p = Mul (a, b)  y = ReduceSum <keepdims = 0> (p, last)", "float[N] y"
    )
    assert all(head.op_type != "Mul" for head in found(model))
