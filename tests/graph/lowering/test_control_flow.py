"""Control flow whose course is known is written out, and then differentiated like anything else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise
from tests.support.gradcheck import gradient_model
from tests.support.ortcheck import check_both

HEAD = '<ir_version: 8, opset_import: ["" : 18]>'

# Chosen by the shape of x: `x` has more than two columns.
IF = f"""{HEAD} f (double[N, C] x) => (double y) <int64 two = {{2}}, int64 one = {{1}}> {{
    s = Shape(x)
    c = Gather<axis: int = 0>(s, one)
    wide = Greater(c, two)
    k = Tanh(x)
    y = If (wide) <
        then_branch = t () => (double[N, C] r) {{ q = Sigmoid(k) r = Mul(q, x) }},
        else_branch = e () => (double[N, C] r) {{ q = Exp(x) r = Identity(q) }}
    >
}}"""

LOOP = f"""{HEAD} f (double[N, C] x) => (double y, double rows)
<int64 trips = {{3}}, bool on = {{1}}> {{
    y, rows = Loop (trips, on, x) <
        body = b (int64 i, bool c, double[N, C] s) => (bool d, double[N, C] t, double[N, C] u) {{
            d = Identity(c)
            n = CastLike(i, s)
            m = Add(s, n)
            t = Tanh(m)
            u = Mul(t, x)
        }}
    >
}}"""

SCAN = f"""{HEAD} f (double[2, 4] x, double[2] h) => (double last, double all) {{
    last, all = Scan <num_scan_inputs: int = 1, scan_input_axes: ints = [1],
                      scan_input_directions: ints = [1], scan_output_axes: ints = [-1],
                      body = b (double[2] s, double[2] e) => (double[2] t, double[2] u) {{
        m = Mul(s, e)
        t = Tanh(m)
        u = Identity(t)
    }}> (h, x)
}}"""


@pytest.mark.parametrize("columns", [2, 5])
def test_if_becomes_the_branch_that_the_shapes_choose(columns: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, columns))
    graph = specialise(onnx.parser.parse_model(IF), {"x": x.shape}).graph
    operators = {node.op for node in graph.nodes}
    assert ("Sigmoid" if columns > 2 else "Exp") in operators
    assert not operators & {"If", "Shape", "Greater"}
    check_both(IF, {"x": x})


def test_loop_is_unrolled() -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3))}
    _same_values(LOOP, feeds)
    # The reference evaluator does not stack what the iterations return.
    check_both(LOOP.replace("double y, double rows)", "double y)"), feeds)


def test_scan_is_unrolled() -> None:
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((2, 4)), "h": rng.standard_normal(2)}
    _same_values(SCAN, feeds)
    # The reference evaluator knows one direction and one axis only.
    plain = SCAN.replace("scan_input_directions: ints = [1]", "scan_input_directions: ints = [0]")
    plain = plain.replace("[-1]", "[0]").replace(
        "scan_input_axes: ints = [1]", "scan_input_axes: ints = [0]"
    )
    check_both(plain.replace("[2, 4] x", "[4, 2] x"), {**feeds, "x": feeds["x"].T})


def _same_values(text: str, feeds: dict[str, np.ndarray]) -> None:
    """Assert that ONNX Runtime computes the same before and after."""
    model = onnx.parser.parse_model(text.replace("double", "float"))
    given = {name: value.astype(np.float32) for name, value in feeds.items()}
    working = specialise(model, {name: value.shape for name, value in feeds.items()})
    assert not {node.op for node in working.graph.nodes} & {"Loop", "Scan"}
    for found, wanted in zip(
        run_once(working.export(), given), run_once(model, given), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_long_loops_are_refused_by_name() -> None:
    model = onnx.parser.parse_model(LOOP.replace("{3}", "{100000}"))
    with pytest.raises(UnsupportedOperatorError, match="Loop"):
        gradient_model(model, {"x": (2, 3)}, ["x"])
