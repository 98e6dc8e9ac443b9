"""What the file fixes is constant, and its shape is what the runtime computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import ModelError
from cloakify.graph.model.constants import Constants
from cloakify.runtime import Device, Session

VALUES = ", ".join(map(str, range(24)))


def imported(body: str, constants: str = "") -> gs.Graph:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> f (float[2, 3] x) => (float[N, M] y) '
        f"<float[2, 3, 4] v = {{{VALUES}}}{constants}> {{ {body} }}"
    )
    return gs.import_onnx(model)


def is_constant(graph: gs.Graph, name: str = "y") -> bool:
    return graph.tensors()[name] in Constants(graph)


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity (v)",
        "t = Transpose (v)  c = Cast <to: int = 11> (t)  y = Neg (c)",
        "y = Constant <value = float[2] {1, 2}> ()",
        "s = Shape (v)  y = ConstantOfShape (s)",
        "y = Clip (v, , v)",
    ],
)
def test_what_comes_from_constants_alone_is_constant(body):
    assert is_constant(imported(body))


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity (x)",
        "y = Mul (v, x)",
        "s = Shape (x)  y = ConstantOfShape (s)",
        "y = RandomNormal <shape: ints = [2, 3]> ()",
        "y = RandomUniformLike (v)",
        "r = RandomNormalLike (v)  y = Add (r, v)",
    ],
)
def test_what_comes_from_data_or_chance_is_not(body):
    assert not is_constant(imported(body))


@pytest.mark.parametrize(("reads", "fixed"), [("v", True), ("x", False)])
def test_what_a_branch_reads_counts(reads, fixed):
    graph = imported(
        f"""c = Constant <value_int: int = 1> ()  d = Cast <to = 9> (c)
        y = If (d) <
            then_branch = g () => (float[N, M] a) {{ a = Neg ({reads}) }},
            else_branch = h () => (float[N, M] b) {{ b = Neg (v) }}
        >"""
    )
    assert is_constant(graph) is fixed


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.permutations(range(3)).map(lambda p: f"Transpose <perm: ints = {list(p)}> (@)"),
            st.just("Transpose (@)"),
            st.just("Identity (@)"),
            st.just("Cast <to: int = 1> (@)"),
            st.sampled_from(["r1", "r2", "r3", "r4"]).map(lambda r: f"Reshape (@, {r})"),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_shape_is_what_the_runtime_gives(steps):
    names = ["v", *(f"t{place}" for place in range(len(steps) - 1)), "y"]
    body = "  ".join(
        f"{names[place + 1]} = {step.replace('@', names[place])}"
        for place, step in enumerate(steps)
    )
    shapes = ", int64[3] r1 = {4, -1, 2}, int64[3] r2 = {0, 1, -1}, int64[3] r3 = {-1, 2, 2}, "
    shapes += "int64[3] r4 = {1, 0, -1}"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> f () => (float[A, B, C] y) '
        f"<float[2, 3, 4] v = {{{VALUES}}}{shapes}> {{ {body} }}"
    )
    try:
        expected = Session(model, Device("cpu"), threads=1).run({})["y"].shape
    except ModelError:
        # A Reshape that does not fit.
        return
    graph = gs.import_onnx(model)
    assert Constants(graph).shape(graph.tensors()["y"]) == expected


def test_shapes_of_filled_and_dequantised_constants():
    graph = imported(
        "a = ConstantOfShape (s)  b = DequantizeLinear (q, z)  "
        "c = Constant <value = float[2] {1, 2}> ()  d = Constant <value_floats: floats = [1]> ()  "
        "y = Add (x, x)",
        ", int64[2] s = {5, 6}, int8[2, 2] q = {1, 2, 3, 4}, float z = {0.5}",
    )
    shapes = Constants(graph).shapes
    assert {name: shapes.get(name) for name in "abcdxy"} == {
        "a": (5, 6),
        "b": (2, 2),
        "c": (2,),
        "d": None,
        "x": None,
        "y": None,
    }


@pytest.mark.parametrize("fixed", [True, False])
def test_networks_are_deeper_than_the_stack(fixed: bool) -> None:
    start = np.zeros(1, np.float32)
    x = gs.Variable("x", np.float32, [1])
    graph = gs.Graph(inputs=[x])
    tensor = gs.Constant("c", start) if fixed else x
    for place in range(5000):
        output = gs.Variable(f"t{place}", np.float32)
        graph.nodes.append(gs.Node("Identity", inputs=[tensor], outputs=[output]))
        tensor = output
    assert (tensor in Constants(graph)) is fixed
    assert Constants(graph).shape(tensor) == ((1,) if fixed else None)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Transpose <perm = [1, 0]> (v)", ""),
        ("y = Transpose <perm = [0, 1, 3]> (v)", ""),
        ("y = Transpose <perm = [1, 0, 2]> (one)", ", int64[1] one = {1}"),
        ("y = Reshape (v, s)", ", int64[4] s = {1, 2, 12, 0}"),
    ],
)
def test_what_contradicts_itself_has_no_shape(body: str, constants: str) -> None:
    graph = imported(body, constants)
    assert is_constant(graph)
    assert Constants(graph).shape(graph.tensors()["y"]) is None
