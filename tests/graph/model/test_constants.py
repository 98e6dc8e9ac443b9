"""What the file fixes is constant, and its shape is what the runtime computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import ModelError
from cloakify.graph.model.constants import constant_shape, is_constant
from cloakify.runtime import Device, Session

VALUES = ", ".join(map(str, range(24)))


def tensors(body: str, constants: str = "") -> dict[str, gs.Tensor]:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> f (float[2, 3] x) => (float[N, M] y) '
        f"<float[2, 3, 4] v = {{{VALUES}}}{constants}> {{ {body} }}"
    )
    return gs.import_onnx(model).tensors()


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
    assert is_constant(tensors(body)["y"])


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
    assert not is_constant(tensors(body)["y"])


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
    assert constant_shape(gs.import_onnx(model).tensors()["y"]) == expected


def test_shapes_of_filled_and_dequantised_constants():
    found = tensors(
        "a = ConstantOfShape (s)  b = DequantizeLinear (q, z)  "
        "c = Constant <value = float[2] {1, 2}> ()  d = Constant <value_floats: floats = [1]> ()  "
        "y = Add (x, x)",
        ", int64[2] s = {5, 6}, int8[2, 2] q = {1, 2, 3, 4}, float z = {0.5}",
    )
    shapes = {name: constant_shape(tensor) for name, tensor in found.items() if name in "abc"}
    assert shapes == {"a": (5, 6), "b": (2, 2), "c": (2,)}


@pytest.mark.parametrize("fixed", [True, False])
def test_networks_are_deeper_than_the_stack(fixed: bool) -> None:
    start = np.zeros(1, np.float32)
    tensor = gs.Constant("c", start) if fixed else gs.Variable("x", np.float32, [1])
    for place in range(5000):
        output = gs.Variable(f"t{place}", np.float32)
        gs.Node("Relu", inputs=[tensor], outputs=[output])
        tensor = output
    assert is_constant(tensor) is fixed
