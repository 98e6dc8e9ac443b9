"""Logits of any mask from features alone are those of the model with that mask."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.edit.mask import insert_mask
from cloakify.graph.edit.taps import tap
from cloakify.masking.masked_head import MaskedHead
from cloakify.runtime import Device

CHANNELS, CLASSES = 3, 4
BODIES = {
    "pooled before": "p = GlobalAveragePool (f)  v = Flatten (p)  y = MatMul (v, w)",
    "pooled after": "c = Conv (f, k)  p = GlobalAveragePool (c)  y = Flatten (p)",
    "a whole map": "c = Conv (f, m)  y = Flatten (c)",
    "turned around": "p = GlobalAveragePool (f)  v = Flatten (p)  s = MatMul (v, w)  y = Neg (s)",
}


def model_of(body: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, {CHANNELS}, 2, 2] x) => (float[N, {CLASSES}] y) {{ f = Relu (x)  {body} }}"
    )
    generator = np.random.default_rng(0)
    for name, shape in {
        "w": (CHANNELS, CLASSES),
        "k": (CLASSES, CHANNELS, 1, 1),
        "m": (CLASSES, CHANNELS, 2, 2),
    }.items():
        values = generator.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def run(model: onnx.ModelProto, x: np.ndarray, name: str) -> np.ndarray:
    content = tap(model, [name]).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("name", BODIES)
def test_any_mask(name: str) -> None:
    model = model_of(BODIES[name])
    classifier = find_classifier(model)
    head, logits = classifier.head, classifier.scores.logits
    masked = MaskedHead.of(model, head, logits, Device("cpu"))
    assert masked is not None
    x = np.random.default_rng(1).normal(size=(7, CHANNELS, 2, 2)).astype(np.float32)
    features = run(model, x, head.features)
    for seed in range(3):
        mask = np.random.default_rng(seed).integers(0, 2, head.num_features).astype(np.float32)
        expected = run(insert_mask(model, head, mask, {}), x, logits)
        np.testing.assert_allclose(masked.logits(features, mask), expected, atol=1e-5)


def test_features_that_reach_the_scores_without_the_mask_are_no_part() -> None:
    """Only what the head reads is masked."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> net (float[N, 4] x) => (float[N, 4] y) '
        "{ f = Relu (x)  s = MatMul (f, w)  t = Tanh (f)  y = Add (s, t) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    classifier = find_classifier(model)
    assert (classifier.head.features, classifier.scores.logits) == ("f", "y")
    head = classifier.head
    assert MaskedHead.of(model, head, classifier.scores.logits, Device("cpu")) is None
