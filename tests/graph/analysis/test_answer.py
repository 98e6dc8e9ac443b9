"""Where a model says which class it takes a sample for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.graph.analysis.answer import Answer, agreeing, answers_of
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier

BOTH = (Answer("k", "index", 3), Answer("z", "scores", 3))
SCORES = "p = Softmax (l)  z = Mul (p, p)"


@pytest.mark.parametrize(
    ("tail", "outputs", "answers"),
    [
        (SCORES, "float[N, 3] z", (Answer("z", "scores", 3),)),
        (SCORES, "float[] z", (Answer("z", "scores", 3),)),
        # Its logits are an answer as well, and may be the only one.
        (SCORES, "float[N, 3] l, float[N, 3] z", (Answer("z", "scores", 3),)),
        ("z = Neg (x)", "float[N, 3] l, float[N, 3] z", ()),
        # Another layer's scores.
        (
            f"{SCORES} a = MatMul (x, w)",
            "float[N, 3] z, float[N, 3] a",
            (Answer("z", "scores", 3),),
        ),
        # One number, whatever it is of, and of a shape that is not declared.
        ("z = ReduceMax <keepdims = 0> (l)", "float z", ()),
        ("z = ReduceMax <keepdims = 0> (l)", "float[] z", ()),
        # Two numbers for three classes.
        ("p = Softmax (l)  v = Slice (p, zero, two, one)", "float[N, 2] v", ()),
        # The largest first, whichever classes they are of.
        ("v, k = TopK (l, three)", "float[N, 3] v, int64[N, 3] k", (Answer("k", "index", 3),)),
        ("v, k = TopK (l, three)  z = Softmax (v)", "float[N, 3] z", ()),
        ("k = ArgMax <axis = 1, keepdims = 0> (l)", "int64[N] k", (Answer("k", "index", 3),)),
        (
            "k = ArgMin <axis = -1> (l) c = Cast <to = 6> (k)",
            "int32[N, 1] c",
            (Answer("k", "index", 3),),
        ),
        ("v, k = TopK (l, two)", "int64[N, 2] k", (Answer("k", "index", 3),)),
        (f"{SCORES} k = ArgMax <axis = 1> (z)", "int64[N, 1] k, float[N, 3] z", BOTH),
        # The sample of the largest score, and a number that is no index.
        ("k = ArgMax <axis = 0> (l)", "int64[1, 3] k", ()),
        ("c = Cast <to = 7> (l)", "int64[N, 3] c", ()),
    ],
)
def test_the_answer_behind_the_logits(tail: str, outputs: str, answers: tuple[Answer, ...]) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> f (float[N, 2] x) => ({outputs})
        <float[2, 3] w = {{1, 2, 3, 4, 5, 6}}, int64[1] zero = {{0}}, int64[1] one = {{1}},
         int64[1] two = {{2}}, int64[1] three = {{3}}>
        {{ r = Relu (x)  l = MatMul (r, w)  {tail} }}"""
    )
    assert answers_of(model, find_classifier(model, Wanted("l")).scores) == answers


def test_answers_agree_on_a_class() -> None:
    scores, index = Answer("z", "scores", 3), Answer("k", "index", 3)
    values = np.array([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    classes = np.array([1, 2, 2, 1])
    # Of two that were rounded to the same probability either may be the answer.
    assert agreeing([scores], [values], classes).tolist() == [True, False, True, False]
    places = np.array([[1.0], [2.0], [0.0], [1.0]])
    assert agreeing([index], [places], classes).tolist() == [True, True, False, True]
    both = agreeing([scores, index], [values, places], classes)
    assert both.tolist() == [True, False, False, False]
    # Declared without a size, it turned out to hold something else.
    assert agreeing([scores], [values[:, :2]], classes).all()
