"""The order of computation: what onnx's own checker lets through is in order, all else is said."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import ModelError
from cloakify.onnxfile import open_model
from cloakify.onnxfile.order import disorder

HEAD = '<ir_version: 8, opset_import: ["" : 18]> f (float[N] x) => (float[N] y) '


def parsed(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + f"<float w = {{2}}> {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("h = Mul (x, w)  y = Relu (h)", None),
        ("y = Relu (h)  h = Mul (x, w)", "Relu reads 'h'"),
        ("h = Mul (h, w)  y = Relu (h)", "Mul reads 'h'"),
        ("h = Mul (x, w)  h = Relu (h)  y = Relu (h)", "Relu makes 'h'"),
        ("x = Mul (x, w)  y = Relu (x)", "Mul makes 'x'"),
        ("w = Neg (x)  y = Relu (w)", "Neg makes 'w'"),
        ("h, h = Split <num_outputs = 2> (x)  y = Relu (h)", "Split makes 'h'"),
        ("y = Clip (x, , w)", None),
        ("y = Clip (x, , v)", "Clip reads 'v'"),
    ],
)
def test_what_is_wrong_is_said(body: str, problem: str | None) -> None:
    found = disorder(parsed(body))
    assert found is None if problem is None else str(found).startswith(problem)


def test_branches_see_what_is_around_them() -> None:
    def branch(reads: str) -> onnx.ModelProto:
        return parsed(
            f"""z = Mul (x, w)  c = Constant <value_int: int = 1> ()  d = Cast <to = 9> (c)
            y = If (d) <
                then_branch = g () => (float[N] a) {{ i = Neg ({reads})  a = Abs (i) }},
                else_branch = k () => (float[N] a) {{ i = Neg (z)  a = Abs (i) }}
            >"""
        )

    assert disorder(branch("z")) is None
    assert str(disorder(branch("y"))).startswith("Neg reads 'y'")
    # What a branch makes is its own.
    assert str(disorder(branch("a"))).startswith("Neg reads 'a'")


def test_functions_see_their_inputs_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
    f (float[N] x) => (float[N] y) <float w = {2}> { y = own.twice (x) }
    <domain: "own", opset_import: ["" : 18]> twice (a) => (b) { b = Add (a, %) }"""
    assert disorder(onnx.parser.parse_model(text.replace("%", "a"))) is None
    assert str(disorder(onnx.parser.parse_model(text.replace("%", "w")))).startswith("Add reads")


@given(st.permutations(range(5)), st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_what_the_checker_lets_through(order: list[int], place: int, source: int) -> None:
    """Nodes of a chain in any order, one of them reading another value."""
    model = parsed("a = Neg (x)  b = Abs (a)  c = Add (b, a)  d = Mul (c, b)  y = Relu (d)")
    nodes = [model.graph.node[number] for number in order]
    nodes[place].input[0] = "xabcd"[source]
    changed = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(changed)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        assert disorder(model) is not None, error
    else:
        assert disorder(model) is None


def test_a_file_out_of_order_is_refused_in_one_line(tmp_path) -> None:
    onnx.save(parsed("h = Mul (h, w)  y = Relu (h)"), tmp_path / "circle.onnx")
    with pytest.raises(ModelError, match=r"circle\.onnx: Mul reads 'h', which nothing") as caught:
        open_model(tmp_path / "circle.onnx")
    assert "\n" not in str(caught.value)
