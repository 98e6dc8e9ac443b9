"""Where gradients end though values go on."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.graph.gradient.blocked import blocked_at

# A way around each, so that there is a gradient.
AROUND = "d = MatMul (x, v)  y = Add (s, d)"


def blocked(body: str) -> list[str]:
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 19]> f (float[N, 3] x, int64[N] k) => (float y)
        <float[3, 3] v = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, float zero = {{0}}, float one = {{1}},
         float small = {{1e-8}},
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
        (f"c = Cast <to = 9> (x)  s = Cast <to = 1> (c) {AROUND}", ["Add"]),
        (f"c = Cast <to = 17> (x)  s = Cast <to = 1> (c) {AROUND}", ["Cast"]),
        (f"c = Cast <to = 16> (x)  s = Cast <to = 1> (c) {AROUND}", []),
        # A Relu that is written out, in three ways.
        ("c = Greater (x, zero)  y = Where (c, x, zero)", []),
        ("c = Greater (x, zero)  g = Cast <to = 1> (c)  y = Mul (x, g)", []),
        ("c = Less (x, zero)  g = Cast <to = 1> (c)  h = Sub (one, g)  y = Mul (h, x)", []),
        ("c = Greater (x, zero)  n = Not (c)  y = Where (n, zero, x)", []),
        # A signed root, and a signed logarithm.
        ("a = Abs (x)  r = Sqrt (a)  g = Sign (x)  y = Mul (g, r)", []),
        ("g = Sign (x)  a = Abs (x)  b = Add (a, one)  r = Log (b)  y = Mul (r, g)", []),
        ("a = Abs (x)  b = Clip (a, small,)  r = Sqrt (b)  g = Sign (x)  y = Mul (g, r)", []),
        ("a = Abs (x)  b = Add (a, small)  r = Sqrt (b)  g = Sign (x)  y = Mul (g, r)", []),
        # A step beside a slope, and the sign of something else.
        (f"a = Abs (x)  b = Add (a, one)  g = Sign (x)  s = Mul (g, b) {AROUND}", ["Sign"]),
        (f"h = MatMul (x, v)  a = Abs (h)  g = Sign (x)  s = Mul (g, a) {AROUND}", ["Sign"]),
        (f"a = Abs (x)  g = Sign (x)  p = Mul (g, a)  s = Add (g, p) {AROUND}", ["Sign"]),
        # Of sizes, of another input, and of what no logit needs.
        (f"z = Shape (x)  c = Cast <to = 1> (z)  r = Round (c)  s = ReduceMax (r) {AROUND}", []),
        (f"c = Cast <to = 1> (k)  r = Floor (c)  s = ReduceMax (r) {AROUND}", []),
        (f"r = Round (x)  s = Relu (x) {AROUND}", []),
    ],
)  # fmt: skip
def test_where_it_ends(body: str, where: list[str]) -> None:
    assert blocked(body) == where


# Smooth and stepped functions of one and of two values; sizes of values pass nothing on.
_ONE = {"Tanh": True, "Relu": True, "Round": False, "Floor": False, "Sign": False}


@st.composite
def networks(draw: st.DrawFn) -> tuple[str, list[tuple[str, str, list[str]]]]:
    """Return the text of a random network from x to y, and its nodes: operator, result, inputs."""
    values, nodes = ["x"], []
    for number in range(draw(st.integers(1, 8))):
        operator = draw(st.sampled_from([*_ONE, "Add", "Mul", "Size"]))
        count = 2 if operator in ("Add", "Mul") else 1
        nodes.append(
            (operator, f"t{number}", [draw(st.sampled_from(values)) for _ in range(count)])
        )
        if operator == "Size":
            nodes += [("Cast", f"c{number}", [f"t{number}"])]
        values.append(nodes[-1][1])
    nodes.append(("Add", "y", [draw(st.sampled_from(values)), values[-1]]))
    lines = [
        f"{result} = {operator}{' <to = 1>' * (operator == 'Cast')} ({', '.join(inputs)})"
        for operator, result, inputs in nodes
    ]
    return "  ".join(lines), nodes


def paths(nodes: list[tuple[str, str, list[str]]], value: str) -> list[list[str]]:
    """Return every way from a value to y, as the results of the nodes that it leads through."""
    if value == "y":
        return [[]]
    return [
        [result, *rest]
        for operator, result, inputs in nodes
        if value in inputs and operator != "Size"
        for rest in paths(nodes, result)
    ]


@given(networks())
@settings(max_examples=150, deadline=None)
def test_it_ends_at_the_first_step_of_any_way(network) -> None:
    """Of all the ways one by one, where those that go through a step meet their first."""
    text, nodes = network
    kinds = {result: operator for operator, result, _ in nodes}
    first = {
        next((result for result in way if not _ONE.get(kinds[result], True)), None)
        for way in paths(nodes, "x")
    } - {None}
    assert blocked(text) == [operator for operator, result, _ in nodes if result in first]
