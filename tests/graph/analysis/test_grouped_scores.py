"""Scores of which one is chosen in each of several groups: labels by pairs, or no classifier's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.errors import HeadError, UsageError
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.graph.edit.taps import tap
from cloakify.masking.linear_head import read_head
from cloakify.settings import EvaluateSetting
from cloakify.workflows.evaluate import evaluate

DEPTH, LABELS = 5, 3
RNG = np.random.default_rng(2)
WEIGHT, BIAS = RNG.normal(size=(DEPTH, 2 * LABELS)), RNG.normal(size=2 * LABELS)
X = RNG.random((90, DEPTH)).astype(np.float32)


def model(ending: str, outputs: str, sizes: list[int], opset: int = 17) -> onnx.ModelProto:
    built = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net (float[N, {DEPTH}] x) => ({outputs}) '
        f"{{ f = Tanh (x)  z = Gemm (f, w, b)  r = Reshape (z, sizes)  {ending} }}"
    )
    count = abs(int(np.prod(sizes)))
    tensors = {"w": np.resize(WEIGHT, (DEPTH, count)), "b": np.resize(BIAS, count)}
    if count == 2 * LABELS:
        tensors = {"w": WEIGHT, "b": BIAS}
    for name, values in tensors.items():
        built.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(values), name))
    built.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sizes), "sizes"))
    built.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "one"))
    return built


PAIRS = {
    "probabilities of yes": (
        "s = Softmax <axis = 2> (r)  y = Gather <axis = 2> (s, one)",
        f"float[N, {LABELS}] y",
        [-1, LABELS, 2],
        17,
    ),
    "as before opset 13": (
        "s = Softmax <axis = 2> (r)  y = Gather <axis = 2> (s, one)",
        f"float[N, {LABELS}] y",
        [-1, LABELS, 2],
        11,
    ),
    "answers": ("y = ArgMax <axis = 2, keepdims = 0> (r)", "int64[N, 3] y", [-1, LABELS, 2], 17),
    "all of no before all of yes": (
        "s = LogSoftmax <axis = 1> (r)  y = Gather <axis = 1> (s, one)",
        f"float[N, {LABELS}] y",
        [-1, 2, LABELS],
        17,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_scores_for_each_label_are_one_logit(name: str, tmp_path: Path) -> None:
    ending, outputs, sizes, opset = PAIRS[name]
    built = model(ending, outputs, sizes, opset)
    found = find_classifier(built)
    assert found.scores.task is Task.MULTILABEL
    assert (found.scores.num_classes, found.shipped_count) == (LABELS, 2 * LABELS)
    scores = np.tanh(X) @ WEIGHT + BIAS
    first = scores.reshape(-1, *sizes[1:])
    expected = first[:, 1] - first[:, 0] if sizes[1] == 2 else first[..., 1] - first[..., 0]
    working = tap(with_class_scores(built, found), [found.scores.logits])
    session = ort.InferenceSession(working.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": X})[0], expected, atol=1e-5)
    assert found.head is not None
    linear = read_head(built, found.head, 2).of_classes(found.scores)
    np.testing.assert_allclose(linear.logits(np.tanh(X)), expected, atol=1e-5)
    # The model's own answer is that a label holds where its logit is above 0.
    shipped = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = shipped.run(None, {"x": X})
    bound = {"answers": 0.5, "all of no before all of yes": np.log(0.5)}.get(name, 0.5)
    np.testing.assert_array_equal(answer > bound, expected > 0)
    onnx.save(built, tmp_path / "pairs.onnx")
    labels = (expected > 0).astype(np.int64)
    labels[::10] = 1 - labels[::10]
    np.savez(tmp_path / "data.npz", x=X, y=labels)
    setting = EvaluateSetting(attack="fgsm", device="cpu", accept_accuracy=True)
    report = evaluate(tmp_path / "pairs.onnx", tmp_path / "data.npz", setting).report
    assert report.models[0].clean.value == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("ending", "outputs", "told"),
    [
        ("y = Softmax <axis = 2> (r)", "float[N, 5, 10] y", "one of 10 at 5 places"),
        ("y = ArgMax <axis = 2, keepdims = 0> (r)", "int64[N, 5] y", "one of 10 at 5 places"),
        ("y = ArgMax <axis = 1, keepdims = 0> (r)", "int64[N, 10] y", "one of 5 at 10 places"),
        ("y = Identity (r)", "float[N, 5, 10] y", "several answers"),
    ],
)
def test_several_answers_are_no_classifier_s(ending: str, outputs: str, told: str) -> None:
    with pytest.raises(HeadError, match=told):
        find_classifier(model(ending, outputs, [-1, 5, 10]))


def test_softmaxes_side_by_side_are_several_answers() -> None:
    ending = "s = Softmax (z)  t = Softmax (q)  y = Concat <axis = 1> (s, t)"
    built = model(f"q = Gemm (f, w)  {ending}", "float[N, 12] y", [-1, LABELS, 2])
    for needs_head in (True, False):
        with pytest.raises(HeadError, match="2 softmaxes"):
            find_classifier(built, needs_head=needs_head)


def test_pairs_are_no_choice_of_one_class() -> None:
    ending, outputs, sizes, opset = PAIRS["answers"]
    with pytest.raises(UsageError, match="labels"):
        find_classifier(model(ending, outputs, sizes, opset), Wanted(task=Task.SINGLE))


@pytest.mark.parametrize(
    ("ending", "outputs", "opset"),
    [
        # One softmax over all of them; one of the sizes is 1; the best of each group.
        ("y = Softmax <axis = 1> (r)", "float[N, 3, 2] y", 11),
        ("m = ReduceMax <axes = [2], keepdims = 0> (r)  y = Softmax (m)", "float[N, 3] y", 17),
    ],
)
def test_what_is_no_choice_in_groups(ending: str, outputs: str, opset: int) -> None:
    built = model(ending, outputs, [-1, LABELS, 2], opset)
    assert find_classifier(built, needs_head=False).scores.task is Task.SINGLE
