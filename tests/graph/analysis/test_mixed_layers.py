"""Layers whose scores are added in fixed shares answer together; others are left alone."""

from __future__ import annotations

import onnx
import pytest

from cloakify.errors import HeadError
from cloakify.graph.analysis.head_search import find_head


def model(body: str) -> onnx.ModelProto:
    numbers = "float two = {2}, float[1] half = {0.5}, int64[1] zero = {0}, int64[1] one = {1}"
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> f (float[N, 4] x) => (float[N, M] y) '
        "<float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}, "
        f"{numbers}> {{ p = Relu (x)  q = Tanh (x)  {body} }}"
    )


@pytest.mark.parametrize(
    "end",
    [
        "s = Add (g, h)  y = Div (s, two)",
        "s = Add (h, g)  y = Mul (half, s)",
        "s = Sum (g, h)  t = Mul (s, half)  y = Softmax (t)",
        "y = Mean (g, h)",
        "u = Unsqueeze (g, zero)  v = Unsqueeze (h, zero)  c = Concat <axis = 0> (u, v)  "
        "y = ReduceMean <axes = [0], keepdims = 0> (c)",
        "s = Mul (g, half)  y = Sub (h, s)",
        "s = Mul (g, half)  t = Div (h, two)  u = Unsqueeze (s, one)  v = Unsqueeze (t, one)  "
        "c = Concat <axis = 1> (u, v)  y = ReduceSum <keepdims = 0> (c, one)",
    ],
)
@pytest.mark.parametrize("second", ["h = Gemm (q, w, b)", "m = MatMul (q, w)  h = Add (m, b)"])
def test_layers_that_are_mixed_answer_together(end: str, second: str):
    found = model(f"g = Gemm (p, w, b)  {second}  {end}")
    with pytest.raises(
        HeadError, match=r"2 layers could be the head; choose with --head among.*mixed"
    ):
        find_head(found)
    answer = "t" if "Softmax" in end else "y"
    head = find_head(found, "g").head
    assert (head.features, head.linear, head.logits) == ("p", "g", answer)
    assert find_head(found, "h").head.logits == answer
    # For an attack either will do.
    assert find_head(found, any_mixed=True).head == find_head(found, "h").head


def test_half_of_the_highest_score_at_any_position_is_mixed_in():
    found = onnx.shape_inference.infer_shapes(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> f (float[N, 4] x, float[N, 5, 4] z) '
            "=> (float y) <float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1, 2, 3}, "
            "float half = {0.5}> { g = Gemm (x, w, b)  m = MatMul (z, w)  h = Add (m, b)  "
            "t = ReduceMax <axes = [1], keepdims = 0> (h)  s = Mul (t, half)  y = Add (g, s) }"
        )
    )
    assert find_head(found, "g").head.logits == find_head(found, "h").head.logits == "y"


@pytest.mark.parametrize(
    "end",
    [
        "y = Mul (g, h)",  # one layer's scores decide how much the other's count
        "y = Div (g, h)",
        "r = Relu (g)  y = Add (r, h)",  # no longer scores
        "y = Max (g, h)",
    ],
)
def test_what_is_no_mixture_of_scores_is_left_alone(end: str):
    found = model(f"g = Gemm (p, w, b)  h = Gemm (q, w, b)  {end}")
    assert [find_head(found, name).head.logits for name in "gh"] == ["g", "h"]
    with pytest.raises(HeadError, match="2 layers could be the head"):
        find_head(found, any_mixed=True)
