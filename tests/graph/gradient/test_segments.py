"""Functions of one number: where they begin and end, and which of them may hide their slope."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from cloakify.graph.gradient.segments import find_segments

HEAD = """<ir_version: 8, opset_import: ["" : 18]>
f (float[4, 6] x, float[4, 6] other) => (float[4, 3] z)
<float half = {0.5}, float one = {1.0}, int64[1] last = {1}, int64[1] two = {2},
 float[6] mean = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}>
"""


def segments_of(body: str) -> list[tuple[str, str, list[str], bool]]:
    """Return source, target, operators and whether it may hide its slope, for each segment."""
    model = onnx.parser.parse_model(f"{HEAD}{{ {body} z = MatMul (y, w) }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((6, 3), np.float32), "w"))
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = gs.import_onnx(inferred)
    active = {
        tensor
        for tensor in graph.tensors()
        if tensor not in ("half", "one", "mean", "last", "two", "w")
    }
    return [
        (one.source.name, one.target.name, [node.op for node in one.nodes], one.may_hide)
        for one in find_segments(graph, active)
    ]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("y = Relu (x)", [("x", "y", ["Relu"], False)]),
        ("y = Round (x)", [("x", "y", ["Round"], True)]),
        # As short as can be: each is looked at on its own.
        (
            "a = Mul (x, half) b = Floor (a) y = Add (b, mean)",
            [
                ("x", "a", ["Mul"], False),
                ("a", "b", ["Floor"], True),
                ("b", "y", ["Add"], False),
            ],
        ),
        # Whole numbers and choices are within.
        (
            "i = Cast <to = 7> (x) y = Cast <to = 1> (i)",
            [("x", "y", ["Cast", "Cast"], True)],
        ),
        (
            "r = Relu (x) q = QuantizeLinear (r, half) y = DequantizeLinear (q, half)",
            [
                ("x", "r", ["Relu"], False),
                ("r", "y", ["QuantizeLinear", "DequantizeLinear"], True),
            ],
        ),
        (
            "d = Sub (x, mean) a = Abs (d) c = Less (a, half) k = Where (c, mean, x) y = Relu (k)",
            [
                ("x", "k", ["Sub", "Abs", "Less", "Where"], True),
                ("k", "y", ["Relu"], False),
            ],
        ),
        # One bend is a ReLU, two may make a dead zone.
        (
            "a = Sub (x, half) b = Relu (a) n = Neg (x) m = Sub (n, half) r = Relu (m) "
            "y = Sub (b, r)",
            [("x", "y", ["Sub", "Relu", "Neg", "Sub", "Relu", "Sub"], True)],
        ),
        # Of two numbers it is no function of one.
        ("a = Add (x, other) y = Relu (a)", [("a", "y", ["Relu"], False)]),
        ("c = Less (x, other) y = Where (c, x, mean)", []),
        # What is read elsewhere is an end too.
        (
            "a = Floor (x) b = Tanh (a) c = Mul (a, other) y = Add (b, c)",
            [("x", "a", ["Floor"], True), ("a", "b", ["Tanh"], True)],
        ),
        # Rows for each number, which are cut where there is one for each again.
        (
            "u = Unsqueeze (x, two) c = Less (u, mean) b = Cast <to = 1> (c) "
            "s = ReduceSum <keepdims = 0> (b, two) y = Relu (s)",
            [
                ("x", "u", ["Unsqueeze"], False),
                ("u", "s", ["Less", "Cast", "ReduceSum"], True),
                ("s", "y", ["Relu"], False),
            ],
        ),
        # Along the features it is no function of one, nor each with each.
        ("k = ArgMax <axis = 1> (x) b = Cast <to = 1> (k) y = Sub (x, b)", []),
        (
            "u = Unsqueeze (x, two) v = Unsqueeze (x, last) c = Less (u, v) b = Cast <to = 1> (c) "
            "y = ReduceSum <keepdims = 0> (b, two)",
            [("x", "u", ["Unsqueeze"], False), ("x", "v", ["Unsqueeze"], False)],
        ),
        # A sum over features is no function of one, nor is another shape.
        ("m = ReduceMean (x, last) y = Sub (x, m)", []),
    ],
)
def test_segments(body: str, wanted: list[tuple[str, str, list[str], bool]]) -> None:
    assert sorted(segments_of(body)) == sorted(wanted)


def test_a_long_way_is_given_up() -> None:
    """Where no cut shortens it: each step goes back to the beginning."""
    body = "v0 = Floor (x) " + " ".join(f"v{k + 1} = Add (v{k}, x)" for k in range(80))
    assert segments_of(f"{body} y = Identity (v80)") == []
