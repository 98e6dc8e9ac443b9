"""What the scores mean is read from what the model makes of them."""

from __future__ import annotations

import onnx
import pytest

from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.task import Task

CONSTANTS = (
    "float[1] one = {1}, float[1] half = {0.5}, float two = {2}, int64[1] first = {1}, "
    "int64[1] minus = {-1}, float[3] factors = {0.5, 2, 1}"
)

SIGMOIDS = [
    "y = Sigmoid (l)",
    "y = HardSigmoid (l)",
    "p = Sigmoid (l)  y = Squeeze (p)",
    "n = Neg (l)  e = Exp (n)  s = Add (e, one)  y = Reciprocal (s)",
    "n = Neg (l)  e = Exp (n)  s = Add (one, e)  y = Div (one, s)",
    "h = Mul (l, half)  t = Tanh (h)  s = Add (t, one)  y = Mul (s, half)",
    "h = Mul (l, half)  t = Tanh (h)  s = Mul (half, t)  y = Add (s, half)",
    "h = Div (l, two)  t = Tanh (h)  s = Div (t, two)  y = Add (half, s)",
    "p = Sigmoid (l)  g = Greater (p, half)  y = Cast <to = 1> (g)",
    "t = Mul (l, two)  p = Sigmoid (t)  y = Clip (p)",
]


def task_of(after: str, classes: int, outputs: str = "float[N, M] y") -> tuple[Task, str]:
    weight = ", ".join(["1"] * 4 * classes)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 4] x) => ({outputs})
        <{CONSTANTS}, float[4, {classes}] w = {{{weight}}}> {{ l = MatMul (x, w)  {after} }}"""
    )
    reading = find_classifier(model).reading
    return reading.task, reading.sign.split(" ")[0]


@pytest.mark.parametrize("after", SIGMOIDS)
def test_a_sigmoid_over_several_scores_makes_labels_and_over_one_two_classes(after):
    assert task_of(after, 3)[0] is Task.MULTILABEL
    task, sign = task_of(after, 1)
    assert task is Task.BINARY
    assert sign


@pytest.mark.parametrize(
    "after",
    [
        "y = Softmax (l)",
        "y = LogSoftmax (l)",
        "m = ReduceMax <axes: ints = [1]> (l)  d = Sub (l, m)  e = Exp (d)"
        "  s = ReduceSum (e, first)  y = Div (e, s)",
        # One against the rest, as scikit-learn normalises it.
        "p = Sigmoid (l)  s = ReduceSum (p, first)  y = Div (p, s)",
        "p = Sigmoid (l)  i = ArgMax <axis = 1> (p)  y = Cast <to = 1> (i)",
        "p = Sigmoid (l)  v, i = TopK (p, first)  y = Identity (v)",
    ],
)
def test_what_chooses_one_of_several_scores_makes_classes(after):
    task, sign = task_of(after, 3)
    assert task is Task.SINGLE
    assert sign


def test_bare_scores_say_nothing():
    assert task_of("y = Identity (l)", 3) == (Task.SINGLE, "")
    assert task_of("y = Identity (l)", 1) == (Task.BINARY, "")


def test_a_bound_on_each_score_makes_labels():
    after = "g = Greater (l, half)  y = Cast <to = 1> (g)"
    assert task_of(after, 3) == (Task.MULTILABEL, "Greater")
    assert task_of(after, 1) == (Task.BINARY, "Greater")


def test_scores_that_are_given_out_beside_their_sigmoid():
    after = "p = Sigmoid (l)  y = Identity (l)"
    assert task_of(after, 3, "float[N, 3] y, float[N, 3] p") == (Task.MULTILABEL, "Sigmoid")
