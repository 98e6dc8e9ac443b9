"""The order of computation: what onnx's own checker lets through is in order, all else is said."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import ModelError
from cloakify.onnxfile import open_model
from cloakify.onnxfile.order import disorder, put_in_order

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


BRANCHED = """z = Mul (x, w)  c = Constant <value_int: int = 1> ()  d = Cast <to = 9> (c)
    v = If (d) <
        then_branch = g () => (float[N] a) { i = Neg (z)  k = Exp (i)  a = Add (k, i) },
        else_branch = h () => (float[N] e) { e = Abs (z) }
    >
    u = Sub (v, z)  y = own.twice (u)"""
OWN = (
    """<domain: "own", opset_import: ["" : 18]> twice (a) => (b) { t = Neg (a)  b = Add (t, a) }"""
)


@given(st.data())
def test_what_the_runtime_puts_in_order_is_put_in_order(data: st.DataObject) -> None:
    """Also inside of branches and functions, and what is computed stays the same."""
    text = HEAD.replace("]>", ', "own" : 1]>') + f"<float w = {{2}}> {{ {BRANCHED} }} {OWN}"
    model = onnx.parser.parse_model(text)
    x = np.array([1, -2, 0.5], np.float32)
    (expected,) = answered(model, x)
    branch = next(node for node in model.graph.node if node.op_type == "If").attribute[0].g
    for nodes in (branch.node, model.functions[0].node, model.graph.node):
        shuffled = data.draw(st.permutations([each.SerializeToString() for each in nodes]))
        del nodes[:]
        nodes.extend(map(onnx.NodeProto.FromString, shuffled))
    written = [node.SerializeToString() for node in model.graph.node]
    was_right = disorder(model) is None
    put_in_order(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(answered(model, x)[0], expected)
    if was_right:
        assert [node.SerializeToString() for node in model.graph.node] == written


def answered(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def test_a_file_in_any_order_is_opened_as_the_runtime_opens_it(tmp_path) -> None:
    onnx.save(parsed("y = Relu (h)  h = Mul (x, w)"), tmp_path / "model.onnx")
    assert [node.op_type for node in open_model(tmp_path / "model.onnx").model.graph.node] == [
        "Mul",
        "Relu",
    ]


def test_a_file_with_a_circle_is_refused_in_one_line(tmp_path) -> None:
    onnx.save(parsed("h = Mul (h, w)  y = Relu (h)"), tmp_path / "circle.onnx")
    with pytest.raises(ModelError, match=r"circle\.onnx: Mul reads 'h', which nothing") as caught:
        open_model(tmp_path / "circle.onnx")
    assert "\n" not in str(caught.value)
