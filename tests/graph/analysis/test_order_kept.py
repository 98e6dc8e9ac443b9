"""Scores are those that a model answers by, whatever it does to a layer's own: against a run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.shares import is_positive
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.graph.model.constants import Constants

DEPTH, CLASSES = 6, 4
RNG = np.random.default_rng(5)
X = RNG.normal(size=(200, DEPTH)).astype(np.float32)
TENSORS = {
    "w": RNG.normal(size=(DEPTH, CLASSES)).astype(np.float32),
    "v": np.random.default_rng(6).normal(size=(DEPTH, CLASSES)).astype(np.float32),
    "pair": RNG.normal(size=(DEPTH, 2)).astype(np.float32),
    "prior": np.array([0.2, 4, 1, 0.5], np.float32),
    "all": np.full(CLASSES, 3, np.float32),
    "kept": np.array([[True, False, True, True]]),
    "low": np.float32(-1e9),
    "axis": np.array([1]),
    "ones": np.ones(CLASSES, np.float32),
    "minus": np.float32(-1),
    "two": np.float32(2),
    "three": np.float32(3),
    "zeros": np.zeros(CLASSES, np.float32),
    "from": np.array([1]),
    "zero": np.array([0]),
    "order": np.array([2, 0, 3, 1]),
    "last": np.array([-1]),
    "far": np.array([-99]),
    "one": np.float32(1),
    "to": np.array([CLASSES]),
    "one_axis": np.array(1),
    "points": RNG.normal(size=(CLASSES, CLASSES + DEPTH)).astype(np.float32),
}
SOFTMAX = "p = Softmax <axis = 1> (z)"
# Where the answer is: in the largest of the last output.
CHANGED = {
    "another prior": f"{SOFTMAX}  q = Mul (p, prior)  y = Identity (q)",
    "another prior, brought to one": (
        f"{SOFTMAX}  q = Mul (p, prior)  s = ReduceSum <keepdims = 1> (q, axis)  y = Div (q, s)"
    ),
    "another prior, by logarithms": "l = LogSoftmax <axis = 1> (z)  y = Add (l, prior)",
    "classes never chosen": "y = Where (kept, z, low)",
    "normalised, with a scale": "y = LayerNormalization <axis = -1> (z, prior, zeros)",
    "steep by class": "y = PRelu (z, prior)",
    "a part of each score by what is no layer": (
        "d = Mul (h, x)  e = Slice (d, zero, to, axis)  y = Add (z, e)"
    ),
    "times that, twice behind": (
        "d = Exp (x)  e = Slice (d, zero, to, axis)  l = LogSoftmax <axis = 1> (z)  y = Mul (e, l)"
    ),
    "another order, of shares": f"{SOFTMAX}  y = Gather <axis = 1> (p, order)",
    "backwards": f"{SOFTMAX}  y = Slice (p, last, far, axis, last)",
    "halves the other way round": (
        f"{SOFTMAX}  a, b = Split <axis = 1> (p)  y = Concat <axis = 1> (b, a)"
    ),
    "one minus shares": f"{SOFTMAX}  y = Sub (one, p)",
    "below the mean": "m = ReduceMean <axes = [1]> (z)  c = Sub (z, m)  y = Neg (c)",
    "below the largest": "m = ReduceMax <axes = [1]> (z)  y = Sub (m, z)",
    "least of sigmoids": "p = Sigmoid (z)  m = Neg (p)  y = Softmax <axis = 1> (m)",
    "one over a power of shares": f"{SOFTMAX}  y = Pow (p, minus)",
    "the cosine of shares": f"{SOFTMAX}  y = Cos (p)",
    "the cosine": "y = Cos (z)",
    "the sine": "y = Sin (z)",
    "how large": "y = Abs (z)",
    "squares": "y = Mul (z, z)",
    "a power of two": "y = Pow (z, two)",
    "shares that are not certain": f"{SOFTMAX}  q = Sub (one, p)  y = Mul (p, q)",
    "minus logarithms": "l = LogSoftmax <axis = 1> (z)  y = Neg (l)",
    "one over them": "s = Softplus (z)  y = Div (one, s)",
    "over what is above 0 or below": (
        f"{SOFTMAX}  d = ReduceMax <axes = [1], keepdims = 1> (x)  y = Mul (p, d)"
    ),
    "another prior, behind a vote": (
        f"{SOFTMAX}  e = MatMul (h, v)  q = Softmax <axis = 1> (e)  s = Add (p, q)  "
        "y = Mul (s, prior)"
    ),
    "a vote with that": (
        f"{SOFTMAX}  d = Mul (h, x)  e = Slice (d, zero, to, axis)  s = Softmax <axis = 1> (e)  "
        "y = Mean (p, s)"
    ),
}
STUMP = ", ".join(
    f"{name} = {values}"
    for name, values in {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": '["BRANCH_LEQ", "LEAF", "LEAF"]',
        "nodes_values": [0.4, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "class_treeids": [0] * 8,
        "class_nodeids": [1] * 4 + [2] * 4,
        "class_ids": [0, 1, 2, 3] * 2,
        "class_weights": [0.1, 0.2, 0.6, 0.1, 0.5, 0.2, 0.2, 0.1],
        "classlabels_int64s": [0, 1, 2, 3],
    }.items()
)
TREE = f"k, y = ai.onnx.ml.TreeEnsembleClassifier <{STUMP}>"
CHANGED |= {
    "a tree on top": f"{SOFTMAX}  {TREE} (p)",
    "a tree on top of these and others": (f"{SOFTMAX}  c = Concat <axis = 1> (p, x)  {TREE} (c)"),
    "the least of distances to points, of these and others": (
        f"{SOFTMAX}  c = Concat <axis = 1> (p, x)  u = Unsqueeze (c, axis)  d = Sub (u, points)  "
        "q = Mul (d, d)  s = ReduceSum <keepdims = 0> (q, last)  y = Neg (s)"
    ),
    "all up to there": f"{SOFTMAX}  y = CumSum (p, one_axis)",
    "another order, by indices of each": (
        "s = Shape (z)  e = Expand (order, s)  y = GatherElements <axis = 1> (z, e)"
    ),
    "squares, by letters": 'y = Einsum <equation = "nc,nc->nc"> (z, z)',
    "what two leaves over": "y = Mod <fmod = 1> (z, two)",
    "falling below 0": "y = LeakyRelu <alpha = -1.0> (z)",
}
KEPT = {
    "nothing": "y = Identity (z)",
    "shares": "y = Softmax <axis = 1> (z)",
    "the sine of shares": f"{SOFTMAX}  y = Sin (p)",
    "squared shares": f"{SOFTMAX}  y = Pow (p, two)",
    "cubes": "y = Pow (z, three)",
    "squared shares, by a product": f"{SOFTMAX}  y = Mul (p, p)",
    "percent": f"{SOFTMAX}  y = Mul (p, all)",
    "normalised": "y = LayerNormalization <axis = -1> (z, ones, zeros)",
    "smooth": f"{SOFTMAX}  q = Mul (p, all)  y = Add (q, all)",
    "by a temperature above 0": (
        "d = ReduceMax <axes = [1], keepdims = 1> (x)  t = Exp (d)  u = Add (t, one)  "
        "y = Div (z, u)"
    ),
    "by one of softplus, and bounded": (
        "d = ReduceMax <axes = [1], keepdims = 1> (x)  t = Softplus (d)  u = Max (t, one)  "
        "y = Mul (z, u)"
    ),
    "in their own order": f"{SOFTMAX}  y = Slice (p, zero, to, axis)",
    "by a temperature of the sample": (
        "t = ReduceL2 <axes = [1], keepdims = 1> (x)  y = Div (z, t)"
    ),
}


def model_of(body: str, outputs: str = f"float[N, {CLASSES}] y") -> onnx.ModelProto:
    built = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"f (float[N, {DEPTH}] x) => ({outputs}) {{ h = Relu (x)  {body} }}"
    )
    built.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, name) for name, values in TENSORS.items()
    )
    return built


def answers(model: onnx.ModelProto, *, needs_head: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the model answers, and what the logits say that it is judged by."""
    found = find_classifier(model, needs_head=needs_head)
    edited = with_class_scores(model, found)
    if found.scores.logits not in [output.name for output in edited.graph.output]:
        edited.graph.output.append(onnx.ValueInfoProto(name=found.scores.logits))
    session = ort.InferenceSession(edited.SerializeToString())
    y, logits = session.run(["y", found.scores.logits], {"x": X})
    return y, logits


@pytest.mark.parametrize("needs_head", [False, True])
@pytest.mark.parametrize("ending", [*CHANGED, *KEPT])
def test_the_largest_score_is_the_answer(ending: str, needs_head: bool) -> None:
    model = model_of(f"z = MatMul (h, w)  {(CHANGED | KEPT)[ending]}")
    y, logits = answers(model, needs_head=needs_head)
    np.testing.assert_array_equal(logits.argmax(axis=1), y.argmax(axis=1))
    shipped = find_classifier(model, needs_head=needs_head).scores.shipped
    own = shipped == "z" or (ending == "nothing" and shipped == "y")
    assert own == (ending in KEPT)


@pytest.mark.parametrize("power", ["Pow (s, square)", "Mul (s, s)", "Identity (s)"])
@pytest.mark.parametrize("needs_head", [False, True])
def test_distances_that_are_squared_again_are_turned_around(power: str, needs_head: bool) -> None:
    body = f"z = MatMul (h, w)  r = Relu (z)  s = Sqrt (r)  q = {power}  y = Neg (q)"
    model = model_of(body)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2), "square"))
    # Where a distance is 0 for several, either may win.
    y, logits = answers(model, needs_head=needs_head)
    single = (y == y.max(axis=1, keepdims=True)).sum(axis=1) == 1
    assert single.sum() > 20
    chosen = logits.argmax(axis=1)
    np.testing.assert_array_equal(chosen[single], y.argmax(axis=1)[single])


@pytest.mark.parametrize(
    ("body", "outputs", "task"),
    [
        (f"z = MatMul (h, w)  {SOFTMAX}  y = Slice (p, from, to, axis)", "float[N, 3] y", "single"),
        (
            "z = MatMul (h, pair)  a, b = Split <axis = 1> (z)  d = Sub (b, a)  y = Sigmoid (d)",
            "float[N, 1] y",
            "binary",
        ),
    ],
)
def test_other_numbers_than_a_layers_scores_are_judged_and_not_masked(body, outputs, task) -> None:
    model = model_of(body, outputs)
    with pytest.raises(HeadError, match="a mask can't be chosen by these"):
        find_classifier(model)
    y, logits = answers(model, needs_head=False)
    found = find_classifier(model, needs_head=False)
    assert (found.head, found.scores.task) == (None, Task(task))
    answer = (y[:, 0] > 0.5).astype(int) if task == "binary" else y.argmax(axis=1)
    np.testing.assert_array_equal(logits.argmax(axis=1), answer)


@pytest.mark.parametrize(
    "pooling",
    [
        "t = Reshape (z, crops)  y = ReduceMean <axes = [1], keepdims = 0> (t)",
        "p = Softmax <axis = 1> (z)  t = Reshape (p, crops)  "
        "y = ReduceMean <axes = [1], keepdims = 0> (t)",
    ],
)
def test_crops_that_are_folded_into_the_batch_have_one_answer(pooling: str) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> f (float[N, 3, {DEPTH}] x) => '
        f"(float[N, {CLASSES}] y) <int64[2] rows = {{-1, {DEPTH}}}, "
        f"int64[3] crops = {{-1, 3, {CLASSES}}}> "
        f"{{ r = Reshape (x, rows)  h = Relu (r)  z = MatMul (h, w)  {pooling} }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(TENSORS["w"], "w"))
    found = find_classifier(model, needs_head=False)
    assert (found.scores.num_classes, found.scores.task) == (CLASSES, Task.SINGLE)
    edited = with_class_scores(model, found)
    if found.scores.logits != "y":
        edited.graph.output.append(onnx.ValueInfoProto(name=found.scores.logits))
    x = np.random.default_rng(2).normal(size=(7, 3, DEPTH)).astype(np.float32)
    session = ort.InferenceSession(edited.SerializeToString())
    y, logits = session.run(["y", found.scores.logits], {"x": x})
    assert logits.shape == (7, CLASSES)
    np.testing.assert_array_equal(logits.argmax(axis=1), y.argmax(axis=1))


def test_what_is_read_again_and_again_is_looked_at_once() -> None:
    values = [gs.Variable(f"v{place}", np.float32, ["N", 4]) for place in range(18)]
    nodes = [gs.Node("Exp", inputs=values[:1], outputs=values[1:2])]
    for before, after in pairwise(values[1:]):
        nodes.append(gs.Node("Sum", inputs=[before] * 20, outputs=[after]))
    constants = Constants(gs.Graph(nodes, inputs=values[:1], outputs=values[-1:]))
    assert is_positive(values[15], constants)
    assert not is_positive(values[0], constants)
