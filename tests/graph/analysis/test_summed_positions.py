"""Layers whose scores an equation sums over positions."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import insert_mask
from cloakify.masking.linear_head import by_feature, read_head

DIMENSIONS, CLASSES = 6, 4
GENERATOR = np.random.default_rng(0)
WEIGHT = GENERATOR.normal(size=(DIMENSIONS, CLASSES)).astype(np.float32)
BIAS = GENERATOR.normal(size=CLASSES).astype(np.float32)


@pytest.mark.parametrize(
    ("equation", "operands", "x_type"),
    [
        ("bhwc,ck->bk", "f, w", f"N, 3, 2, {DIMENSIONS}"),
        ("bchw,kc->bk", "f, wt", f"N, {DIMENSIONS}, 3, 2"),
        ("kc,btc->bk", "wt, f", f"N, 5, {DIMENSIONS}"),
        ("nct,ck->nk", "f, w", f"N, {DIMENSIONS}, 5"),
    ],
)
def test_scores_that_are_summed_over_positions(equation: str, operands: str, x_type: str) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[{x_type}] x) => (float[N, {CLASSES}] y) "
        f'{{ f = Relu (x)  e = Einsum <equation = "{equation}"> ({operands})  y = Add (e, b) }}'
    )
    for name, values in (("w", WEIGHT), ("wt", WEIGHT.T.copy()), ("b", BIAS)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    head = find_head(model).head
    assert (head.features, head.num_features, head.num_classes) == ("f", DIMENSIONS, CLASSES)
    sizes = [7 if size == "N" else int(size) for size in x_type.split(", ")]
    x = np.random.default_rng(1).normal(size=sizes).astype(np.float32)
    mask = np.array([1, 0, 1, 0, 0, 1], np.float32)
    session = ort.InferenceSession(
        insert_mask(model, head, mask, {}).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rows = np.moveaxis(np.maximum(x, 0), sizes.index(DIMENSIONS), -1).reshape(7, -1, DIMENSIONS)
    expected = (rows.sum(axis=1) * mask) @ WEIGHT + BIAS
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=1e-4)
    linear = read_head(model, head, x.ndim)
    pooled = by_feature(np.maximum(x, 0), head).mean(axis=1)
    np.testing.assert_allclose(linear.logits(pooled, mask), expected, atol=1e-4)


@pytest.mark.parametrize("declared", ["N", "N, 6", "N, 2, 3, 6"])
def test_features_of_another_rank_than_an_equation_s_are_no_layer_s(declared: str) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[{declared}] x) => (float[N, {CLASSES}] y) "
        '{ f = Relu (x)  y = Einsum <equation = "btc,ck->bk"> (f, w) }'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    with pytest.raises(HeadError, match="no linear layer"):
        find_head(model)


def test_scores_that_are_summed_over_who_knows_how_many_positions_are_no_layer_s() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"net (float[N, T, {DIMENSIONS}] x) => (float[N, {CLASSES}] y) "
        '{ f = Relu (x)  y = Einsum <equation = "btc,ck->bk"> (f, w) }'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    with pytest.raises(HeadError, match="no linear layer"):
        find_head(model)
    assert find_classifier(model, needs_head=False).scores.shipped == "y"
