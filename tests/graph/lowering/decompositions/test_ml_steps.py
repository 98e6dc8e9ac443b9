"""Pipelines' preprocessing written out gives what ONNX Runtime's kernels give, with gradients."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.attacks.target import Target
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.gradient.coverage import gradient_coverage
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.specialise import specialise
from cloakify.runtime import Device

STEPS = {
    "scaler": "s = ai.onnx.ml.Scaler <offset = [0.5, -1.0, 2.0], scale = [2.0, 0.5, -3.0]> (x)",
    "scaler of one number": "s = ai.onnx.ml.Scaler <offset = [0.5], scale = [2.0]> (x)",
    "imputer": "s = ai.onnx.ml.Imputer <imputed_value_floats = [1.0, 2.0, 3.0], "
    "replaced_value_float = 0.25> (x)",
    "L1": 's = ai.onnx.ml.Normalizer <norm = "L1"> (x)',
    "L2": 's = ai.onnx.ml.Normalizer <norm = "L2"> (x)',
    "MAX": 's = ai.onnx.ml.Normalizer <norm = "MAX"> (x)',
    "regressor": "s = ai.onnx.ml.LinearRegressor <targets = 3, coefficients = "
    "[1.0, 2.0, 3.0, -1.0, 0.5, 0.0, 2.0, -2.0, 1.0], intercepts = [0.1, 0.2, 0.3]> (x)",
    "extractor": "s = ai.onnx.ml.ArrayFeatureExtractor (x, k)",
    "vectorizer": "a = Slice (x, zero, one, one)  b = Slice (x, one, three, one)  "
    "s = ai.onnx.ml.FeatureVectorizer <inputdimensions = [1, 2]> (a, b)",
}


def model_of(step: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 3]> '
        "net (float[N, 3] x) => (float[N, 4] y) <int64[3] k = {2, 0, 1}, int64[1] zero = {0}, "
        "int64[1] one = {1}, int64[1] three = {3}, "
        "float[3, 4] w = {1, -2, 3, 0.5, 2, 1, -1, 4, 0.3, -0.7, 2, 1}> "
        f"{{ {step}  "
        "y = MatMul (s, w) }"
    )


@pytest.mark.parametrize("name", STEPS)
def test_values_and_gradients(name: str) -> None:
    model = model_of(STEPS[name])
    scores, spec = find_classifier(model).scores, find_input(model)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    x[0, 0] = 0.25
    # Away from where a norm is 0, or another number is the largest.
    x[:, 2] += 4
    labels = np.array([0, 1, 2, 3, 0])
    target = Target(model, spec, scores, Device("cpu"))
    found = target.evaluate(x, labels)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def loss(values: np.ndarray) -> np.ndarray:
        (logits,) = session.run(None, {"x": values.astype(np.float32)})
        logits = logits.astype(float)
        logits -= logits.max(axis=1, keepdims=True)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), labels]

    np.testing.assert_allclose(found.loss, loss(x), rtol=1e-4, atol=1e-5)
    step = 1e-2
    for column in range(3):
        moved = np.zeros_like(x)
        moved[:, column] = step
        slope = (loss(x + moved) - loss(x - moved)) / (2 * step)
        rows = slice(1, None) if name == "imputer" else slice(None)
        np.testing.assert_allclose(found.gradient[rows, column], slope[rows], rtol=2e-2, atol=2e-2)
    if name == "imputer":
        # What is replaced has no say.
        assert found.gradient[0, 0] == 0
    assert gradient_coverage(model, "x", "y").missing == ()


def test_double_and_whole_numbers_are_read_as_float() -> None:
    for kind in ("double", "int64"):
        model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 3]> '
            f"net ({kind}[N, 3] x) => (float[N, 3] y) "
            "{ y = ai.onnx.ml.Scaler <offset = [1.0, 2.0, 3.0], scale = [2.0, 1.0, 0.5]> (x) }"
        )
        working = specialise(model, {"x": (2, 3)}, has_rule).export()
        assert not any(node.domain == "ai.onnx.ml" for node in working.graph.node)
        x = np.arange(6).reshape(2, 3).astype(kind)
        first, second = (
            ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
                None, {"x": x}
            )[0]
            for each in (model, working)
        )
        np.testing.assert_allclose(first, second, rtol=1e-6)


def test_votes_are_counted_of_a_classifier_s_label() -> None:
    """As one against one does: what it is written out as must have the label, too."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 1]> '
        "net (float[N, 3] x) => (float[N, 2] y) "
        "{ l, s = ai.onnx.ml.LinearClassifier <classlabels_ints = [4, 7], "
        "coefficients = [1.0, 2.0, -1.0, 0.5, -1.0, 2.0], intercepts = [0.1, -0.2]> (x)  "
        "c = Cast <to = 1> (l)  r = Unsqueeze (c, one)  y = Add (s, r) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    written = specialise(model, {"x": x.shape}, has_rule).export()
    assert not {node.domain for node in written.graph.node} - {"", "ai.onnx"}
    first, second = (
        ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        for each in (model, written)
    )
    expected, found = (each.run(None, {"x": x})[0] for each in (first, second))
    assert len(np.unique(np.rint(expected - found))) == 1
    np.testing.assert_allclose(found, expected, atol=1e-5)
