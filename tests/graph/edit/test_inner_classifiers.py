"""Classifiers inside a model are differentiated as what is read of them, their probabilities."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto

from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.edit.class_logits import with_class_scores
from tests.support.classifiers import target_of
from tests.support.support_vectors import Machine

FEATURES, CLASSES = 4, 3
RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(20, FEATURES)).astype(np.float32)
BODIES = {
    "votes": "s = Add (p0, p1)  p = Mul (s, half)  y = Identity (p)",
    "votes of three": "c = Sum (p0, p1, p2)  y = Div (c, three)",
    "weighed": "a = Mul (p0, most)  b = Mul (p1, rest)  y = Add (a, b)",
    "stacked": "s = Concat <axis = 1> (p0, p1, x)  z = MatMul (s, top)  y = Softmax <axis = 1> (z)",
}


def model_of(body: str, transform: str) -> ModelProto:
    """Classifiers of the same features, and what is made of their probabilities."""
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"net (float[N, {FEATURES}] x) => (float[N, {CLASSES}] y) "
        "<float half = {0.5}, float three = {3}, float most = {0.7}, float rest = {0.3}> { "
    )
    for number in range(3):
        weight, bias = RANDOM.normal(size=(CLASSES, FEATURES)), RANDOM.normal(size=CLASSES)
        text += (
            f"l{number}, p{number} = ai.onnx.ml.LinearClassifier "
            f"<classlabels_ints = [0, 1, 2], coefficients = {weight.ravel().round(3).tolist()}, "
            f"intercepts = {bias.round(3).tolist()}, multi_class = 1, "
            f'post_transform = "{transform}"> (x) '
        )
    model = onnx.parser.parse_model(f"{text} {body} }}")
    top = RANDOM.normal(size=(2 * CLASSES + FEATURES, CLASSES)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(top, "top"))
    return model


@pytest.mark.parametrize("transform", ["SOFTMAX", "LOGISTIC", "NONE"])
@pytest.mark.parametrize("name", BODIES)
def test_gradients_are_those_of_the_shipped_answers(name: str, transform: str) -> None:
    """Against differences of what ONNX Runtime answers: of logarithms, of probabilities."""
    model = model_of(BODIES[name], transform)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": X})[0].argmax(axis=1)
    target = target_of(model, needs_head=False)
    found = target.evaluate(X, y)
    logits = target.logits(X)

    answers = session.run(None, {"x": X})[0]
    mixed = name != "stacked" and transform != "NONE"
    told = np.log(answers) if mixed or name == "stacked" else answers
    # What shifts all logits of a sample, or scales them, changes no order.
    around = [each - each.mean(axis=1, keepdims=True) for each in (logits, told)]
    ratio = float((around[0] * around[1]).sum() / np.square(around[1]).sum())
    np.testing.assert_allclose(around[0], ratio * around[1], rtol=1e-3, atol=1e-4)
    assert ratio > 0 and (transform == "NONE" or ratio == pytest.approx(1, rel=1e-3))

    def margins(x: np.ndarray) -> np.ndarray:
        values = session.run(None, {"x": x})[0].astype(np.float64)
        values = ratio * (values if told is answers else np.log(values))
        values = values - values.max(axis=1, keepdims=True)
        return values[np.arange(len(x)), y] - np.log(np.exp(values).sum(axis=1))

    step = 1e-2
    for place in range(FEATURES):
        moved = np.where(np.arange(FEATURES) == place, step, 0).astype(np.float32)
        slope = -(margins(X + moved) - margins(X - moved)) / (2 * step)
        np.testing.assert_allclose(found.gradient[:, place], slope, rtol=0.05, atol=5e-3)


def test_a_classifier_that_is_judged_by_its_scores_stays() -> None:
    model = model_of("y = Identity (p0)", "SOFTMAX")
    working = with_class_scores(model, find_classifier(model))
    kinds = [node.op_type for node in working.graph.node]
    assert kinds == [node.op_type for node in model.graph.node]


STACKED = {
    "top": "s = Concat <axis = 1> (p, x)  z = MatMul (s, top)  y = Softmax <axis = 1> (z)",
    "vote": "q = Mul (p, half)  e = MatMul (x, top)  o = Softmax <axis = 1> (e)  "
    "g = Mul (o, half)  y = Add (q, g)",
    "scikit-learn's vote": "l, r = ai.onnx.ml.LinearClassifier <classlabels_ints = [CLASSES], "
    'coefficients = [WEIGHTS], intercepts = [ZEROS], post_transform = "SOFTMAX"> (x)  '
    'o = ai.onnx.ml.Normalizer <norm = "L1"> (r)  q = Mul (p, half)  g = Mul (o, half)  '
    "y = Sum (q, g)  k = ArgMax <axis = 1> (y)",
}


def with_support_vectors(machine: Machine, name: str) -> tuple[ModelProto, np.ndarray]:
    """Support vectors whose probabilities a layer, or a vote, reads."""
    count = machine.classes
    rows = FEATURES + (count if name == "top" else 0)
    top = np.random.default_rng(count).normal(size=(rows, count)).astype(np.float32) * 2
    numbers = {"CLASSES": range(count), "WEIGHTS": top.T.ravel(), "ZEROS": [0.0] * count}
    statements = STACKED[name]
    for word, values in numbers.items():
        statements = statements.replace(word, ", ".join(map(str, values)))
    body = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"net (float[N, {count}] p, float[N, {FEATURES}] x) => (float[N, {count}] y) "
        f"<float half = {{0.5}}> {{ {statements} }}"
    )
    model = machine.model()
    model.graph.node[1].output[1] = "p"
    model.graph.node.extend(body.graph.node)
    model.graph.initializer.extend(
        [*body.graph.initializer, onnx.numpy_helper.from_array(top, "top")]
    )
    del model.graph.output[:]
    model.graph.output.extend(body.graph.output)
    return model, top.astype(float)


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors_inside_are_their_coupled_probabilities(
    kernel: str, classes: int, name: str
) -> None:
    """Logits and gradients against the paper's iteration, carried to its end in double."""
    machine = Machine(classes, kernel, platt=True, seed=classes)
    model, top = with_support_vectors(machine, name)
    target = target_of(model, needs_head=False)

    def log_answers(x: np.ndarray) -> np.ndarray:
        p, direct = machine.probabilities(x), x @ top[-FEATURES:]
        if name == "top":
            direct = direct + p @ top[:classes]
        powers = np.exp(direct - direct.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return np.log(shares if name == "top" else (shares + p) / 2)

    x = X[:8].astype(float)
    answers = log_answers(x)
    # ONNX Runtime ends its iteration where probabilities change by less than 0.005 / C.
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shipped = session.run(None, {"x": X[:8]})[0]
    np.testing.assert_allclose(shipped, np.exp(answers), atol=0.02)
    y = np.arange(8) % classes
    found = target.evaluate(X[:8], y)
    np.testing.assert_allclose(found.loss, -answers[np.arange(8), y], rtol=1e-3, atol=1e-4)
    for place in range(FEATURES):
        step = np.eye(FEATURES)[place] * 1e-5
        slope = (log_answers(x - step) - log_answers(x + step))[np.arange(8), y] / 2e-5
        np.testing.assert_allclose(found.gradient[:, place], slope, rtol=2e-3, atol=2e-4)


def test_a_label_of_support_vectors_that_others_read_stays_the_same() -> None:
    """Without Platt's numbers the operator's label is another one."""
    machine = Machine(4, "RBF", platt=True)
    model, _ = with_support_vectors(machine, "top")
    model.graph.output.append(onnx.helper.make_tensor_value_info("label", 7, ["N"]))
    working = with_class_scores(model, find_classifier(model, needs_head=False))
    labels = [
        ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            ["label"], {"x": X}
        )[0]
        for each in (model, working)
    ]
    np.testing.assert_array_equal(*labels)
