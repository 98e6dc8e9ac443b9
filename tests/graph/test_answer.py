"""Where a model says which class it takes a sample for."""

from __future__ import annotations

import onnx
import pytest

from cloakify.graph.answer import Answer, answer_of
from cloakify.graph.head import find_head

SCORES = "p = Softmax (l)  z = Mul (p, p)"


@pytest.mark.parametrize(
    ("tail", "outputs", "answer"),
    [
        (SCORES, "float[N, 3] z", Answer("z", False)),
        (SCORES, "float z", Answer("z", False)),
        # Its logits are there for all to read.
        (SCORES, "float[N, 3] z, float[N, 3] l", None),
        # Two numbers for three classes.
        (f"{SCORES} v = Slice (z, zero, two, one)", "float[N, 2] v", None),
        ("k = ArgMax <axis = 1, keepdims = 0> (l)", "int64[N] k", Answer("k", True)),
        ("k = ArgMin <axis = -1> (l) c = Cast <to = 6> (k)", "int32[N, 1] c", Answer("k", True)),
        ("v, k = TopK (l, two)", "int64[N, 2] k", Answer("k", True)),
        # Scores tell more than an index.
        (f"{SCORES} k = ArgMax <axis = 1> (z)", "int64[N, 1] k, float[N, 3] z", Answer("z", False)),
        # The sample of the largest score, and a number that is no index.
        ("k = ArgMax <axis = 0> (l)", "int64[1, 3] k", None),
        ("c = Cast <to = 7> (l)", "int64[N, 3] c", None),
    ],
)
def test_the_answer_behind_the_logits(tail: str, outputs: str, answer: Answer | None) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> f (float[N, 2] x) => ({outputs})
        <float[2, 3] w = {{1, 2, 3, 4, 5, 6}}, int64[1] zero = {{0}}, int64[1] one = {{1}},
         int64[1] two = {{2}}> {{ r = Relu (x)  l = MatMul (r, w)  {tail} }}"""
    )
    assert answer_of(model, find_head(model).head) == answer
