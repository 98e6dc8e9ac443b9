"""What is said of a model's gradients without building them."""

from __future__ import annotations

import onnx
import pytest

from cloakify.graph.gradient.coverage import gradient_coverage


def coverage(body: str):
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> f (float[N, 3] x) => (float[N, 3] y)
        <float[3, 3] v = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, float zero = {{0}}, float one = {{1}}>
        {{ {body} }}"""
    )
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return gradient_coverage(model, "x", "y")


def test_an_ordinary_model() -> None:
    found = coverage("h = MatMul (x, v)  r = Relu (h)  y = MatMul (r, v)")
    assert (found.operators, found.missing, found.blocked, found.passable) == (3, (), (), False)


@pytest.mark.parametrize(
    ("body", "blocked", "passable"),
    [
        ("h = Round (x)  d = MatMul (x, v)  y = Add (h, d)", ("Round (n0)",), True),
        ("c = Less (x, zero)  h = Where (c, one, zero)  y = MatMul (h, v)", ("Where (n1)",), True),
        ("c = Cast <to = 7> (x)  h = Cast <to = 1> (c)  y = Add (h, x)", ("Cast (n0)",), True),
        (
            "c = Greater (x, zero)  g = Cast <to = 1> (c)  h = Floor (x)  s = Add (g, x) "
            "y = Add (h, s)",
            ("Floor (n2)", "Add (n3)"),
            True,
        ),
        ("h = Ceil (x)  y = MatMul (x, v)", (), False),
        # Types that NumPy has none for.
        ("c = Cast <to = 16> (x)  h = Cast <to = 1> (c)  y = MatMul (h, v)", (), False),
    ],
)  # fmt: skip
def test_where_gradients_end_is_said(body: str, blocked: tuple[str, ...], passable: bool) -> None:
    found = coverage(body)
    assert (found.blocked, found.passable) == (blocked, passable)


def test_what_is_missing_is_named() -> None:
    found = coverage(
        "h = Det (x)  n = NonZero (x)  f = Cast <to = 1> (n)  s = Add (h, x) y = MatMul (s, v)"
    )
    assert found.missing == ("Det (n0)",)


def test_no_way() -> None:
    assert coverage("y = MatMul (v, v)").missing == ()
    assert (
        "no way"
        in gradient_coverage(
            onnx.parser.parse_model(
                """<ir_version: 8, opset_import: ["" : 18]>
            f (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }"""
            ),
            "x",
            "elsewhere",
        ).missing[0]
    )
