"""Where gradients end though values go on."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs
import pytest

from cloakify.graph.gradient.blocked import blocked_at

# A way around each, so that there is a gradient.
AROUND = "d = MatMul (x, v)  y = Add (s, d)"


def blocked(body: str) -> list[str]:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> f (float[N, 3] x, int64[N] k) => (float y)
        <float[3, 3] v = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, float zero = {{0}}, float one = {{1}},
         float[2] ends = {{0, 1}}, int64 three = {{3}}> {{ {body} }}"""
    )
    graph = gs.import_onnx(model)
    tensors = graph.tensors()
    return [node.op for node in blocked_at(graph, tensors["x"], tensors["y"])]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (f"s = Round (x) {AROUND}", ["Round"]),
        (f"h = MatMul (x, v)  s = Sign (h) {AROUND}", ["Sign"]),
        (f"a = ArgMax <axis = 1> (x)  o = OneHot (a, three, ends)  s = Squeeze (o) {AROUND}",
         ["ArgMax"]),
        (f"c = Cast <to = 7> (x)  s = Cast <to = 1> (c) {AROUND}", ["Cast"]),
        (f"c = Greater (x, zero)  s = Where (c, one, zero) {AROUND}", ["Where"]),
        (f"c = Greater (x, zero)  g = Cast <to = 1> (c)  s = MatMul (g, v) {AROUND}",
         ["MatMul"]),
        (f"c = Greater (x, zero)  s = Cast <to = 1> (c) {AROUND}", ["Add"]),
        # A Relu that is written out, in three ways.
        ("c = Greater (x, zero)  y = Where (c, x, zero)", []),
        ("c = Greater (x, zero)  g = Cast <to = 1> (c)  y = Mul (x, g)", []),
        ("c = Less (x, zero)  g = Cast <to = 1> (c)  h = Sub (one, g)  y = Mul (h, x)", []),
        ("c = Greater (x, zero)  n = Not (c)  y = Where (n, zero, x)", []),
        # Of sizes, of another input, and of what no logit needs.
        (f"z = Shape (x)  c = Cast <to = 1> (z)  r = Round (c)  s = ReduceMax (r) {AROUND}", []),
        (f"c = Cast <to = 1> (k)  r = Floor (c)  s = ReduceMax (r) {AROUND}", []),
        (f"r = Round (x)  s = Relu (x) {AROUND}", []),
    ],
)  # fmt: skip
def test_where_it_ends(body: str, where: list[str]) -> None:
    assert blocked(body) == where
