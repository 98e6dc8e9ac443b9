"""Answers [C, N], the classes before the samples: judged by the scores before they are turned."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.attacks.passes import check_scores
from cloakify.attacks.target import Target
from cloakify.errors import HeadError, ModelError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.runtime import Device

DEPTH, CLASSES = 5, 4
RNG = np.random.default_rng(2)
W = RNG.normal(size=(DEPTH, CLASSES)).astype(np.float32)
# As many samples as classes, too: their shape alone tells nothing then.
X = RNG.normal(size=(12, DEPTH)).astype(np.float32)
SCORES = {
    "a layer": "h = Relu (x)  z = MatMul (h, w)",
    "distances": (
        "u = Unsqueeze (x, one)  c = Transpose <perm = [1, 0]> (w)  d = Sub (u, c)  "
        "z = ReduceSumSquare <axes = [2], keepdims = 0> (d)"
    ),
}
ENDINGS = {
    "scores": ("y = Transpose <perm = [1, 0]> (z)", "float[4, N] y"),
    "scores by default": ("y = Transpose (z)", "float[4, N] y"),
    "shares": ("t = Transpose (z)  y = Softmax <axis = 0> (t)", "float[4, N] y"),
    "and the class": (
        "y = Transpose <perm = [1, 0]> (z)  k = ArgMax <axis = 0, keepdims = 0> (y)",
        "float[4, N] y, int64[N] k",
    ),
    "and the class, along an axis": (
        "t = Transpose (z)  k = ArgMax <axis = 0> (t)  y = Softmax <axis = 0> (t)",
        "float[4, N] y, int64[1, N] k",
    ),
}


def model_of(body: str, outputs: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[N, {DEPTH}] x) => ({outputs}) '
        f"<int64[1] one = {{1}}> {{ {body} }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    return model


def scores_of(name: str) -> np.ndarray:
    if name == "a layer":
        return np.maximum(X, 0) @ W
    return np.square(X[:, None] - W.T).sum(axis=2)


@pytest.mark.parametrize("count", [1, CLASSES, len(X)])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", SCORES)
def test_the_samples_stay_what_they_are(name: str, ending: str, count: int) -> None:
    body, outputs = ENDINGS[ending]
    model = model_of(f"{SCORES[name]}  {body}", outputs)
    found = find_classifier(model, needs_head=name == "a layer")
    assert found.scores.shipped == "z"
    judged = with_class_scores(model, found)
    target = Target(judged, find_input(model), found.scores, Device("cpu"), CLASSES, 1)
    expected = scores_of(name)[:count]
    np.testing.assert_allclose(target.logits(X[:count]), expected, rtol=1e-4, atol=1e-5)
    labels = expected.argmax(axis=1)
    assert target.correct(X[:count], labels).all()
    assert not target.correct(X[:count], (labels + 1) % CLASSES).any()


@pytest.mark.parametrize("needs_head", [False, True])
def test_what_is_computed_that_way_is_refused_by_it(needs_head: bool) -> None:
    model = model_of(
        "v = Transpose <perm = [1, 0]> (w)  t = Transpose <perm = [1, 0]> (x)  y = MatMul (v, t)",
        "float[4, N] y",
    )
    with pytest.raises(HeadError, match=r"4 classes along their first axis, and the samples \('N'"):
        find_classifier(model, needs_head=needs_head)


def test_where_only_a_run_tells_it_is_said_then() -> None:
    with pytest.raises(ModelError, match=r"shape 4×3, .* classes lie along their first axis"):
        check_scores({"y": np.zeros((4, 3))}, "y", 3, 4)


@pytest.mark.parametrize("last", ["Identity", "Softmax <axis = 0>"])
@pytest.mark.parametrize("needs_head", [True, False])
def test_samples_behind_features_and_classes_are_told_so(last: str, needs_head: bool) -> None:
    """No autoencoder: what comes out has the axis of samples where it goes in."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[{DEPTH}, N] x) => (float[4, N] y) '
        f"{{ h = Relu (x)  z = MatMul (w, h)  y = {last} (z) }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(W.T.copy(), "w"))
    with pytest.raises(HeadError, match=r"the 4 classes along their first axis and 'N' along") as e:
        find_classifier(model, needs_head=needs_head)
    assert "autoencoder" not in str(e.value)
