"""Shapes of inner values: against those that values have when the model runs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx.reference import ReferenceEvaluator

from cloakify.errors import ModelError
from cloakify.graph.edit.taps import tap
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise
from cloakify.graph.model import shapes
from cloakify.graph.model.shapes import import_with_shapes, shape_of

BODIES = {
    # A shape of ours, kept through computations that symbols do not survive.
    "batch from the input": "s = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (s, minus)  "
    "v = Reshape (x, t)",
    "halves": "s = Shape <start = 1, end = 2> (x)  h = Div (s, two)  t = Concat <axis = 0> "
    "(minus, two, h, three)  v = Reshape (x, t)",
    "sizes added up": "v = Concat <axis = 1> (x, x)",
    "a size that the values decide": "n = NonZero (x)  v = Transpose (n)",
    "turned": "v = Transpose <perm = [2, 0, 1]> (x)",
}


def model(body: str, x: str = "N, T, 3") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> f (float[{x}] x) => (float[A] y)
        <int64[1] minus = {{-1}}, int64[1] two = {{2}}, int64[1] three = {{3}}>
        {{ {body}  y = Identity (v) }}"""
    )


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("x", ["N, T, 3", "N, 4, 3", "?, ?, 3", "2, T, 3"])
def test_sizes_that_are_told_are_those_of_the_run(body, x):
    built = model(body, x)
    graph = import_with_shapes(built)
    told = graph.tensors()["v"].shape
    symbols = graph.inputs[0].shape
    for batch, length in ((2, 4), (2, 8), (6, 4)):
        if ("4" in x and length != 4) or (x.startswith("2") and batch != 2):
            continue
        sample = np.ones((batch, length, 3), np.float32)
        v = ReferenceEvaluator(tap(built, ["v"])).run(["v"], {"x": sample})[0]
        sizes = dict(zip(symbols, sample.shape, strict=True))
        assert len(told) == v.ndim
        for size, is_size in zip(told, v.shape, strict=True):
            assert size is None or sizes.get(size, size) == is_size


def test_what_follows_from_the_inputs_is_told():
    told = {
        name: import_with_shapes(model(body)).tensors()["v"].shape for name, body in BODIES.items()
    }
    assert told["batch from the input"] == ["N", None]
    assert told["halves"] == [None, 2, None, 3]
    assert told["sizes added up"] == ["N", None, 3]
    assert told["turned"] == [3, "N", "T"]


def test_a_size_that_is_declared_and_not_found_is_the_declared_one():
    """As skl2onnx declares its outputs: no size of the batch, but how many classes."""
    built = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> f (float[?, 3] x) => (float[?, 2] y)
        { n = NonZero (x)  t = Transpose (n)  y = Cast <to = 1> (t) }"""
    )
    told = import_with_shapes(built).tensors()["y"].shape
    assert told[1] == 2


@pytest.mark.parametrize(("x", "times"), [("2, 4, 3", 1), ("N, 4, 3", 2)])
def test_shapes_are_inferred_once_where_nothing_is_symbolic(x, times, monkeypatch):
    done = []
    plain = shapes.infer_shapes
    monkeypatch.setattr(
        shapes, "infer_shapes", lambda *args, **more: done.append(1) or plain(*args, **more)
    )
    graph = import_with_shapes(model(BODIES["turned"], x))
    assert len(done) == times
    assert list(graph.tensors()["v"].shape) == [3, 2 if x[0] == "2" else "N", 4]


def test_sizes_below_zero_are_none_of_a_run():
    """onnx infers what is asked for; ONNX Runtime, what is left."""
    built = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> f (float[2, 5] x) => (float[A, B] y)
        <int64[2] sizes = {2, -1}> { v = CenterCropPad (x, sizes)  y = Identity (v) }"""
    )
    (v,) = run_once(tap(built, ["v"]), {"x": np.ones((2, 5), np.float32)})
    assert v.shape == (2, 0)
    assert list(import_with_shapes(built).tensors()["v"].shape) == [2, None]
    working = specialise(built, {"x": (2, 5)})
    assert shape_of(working.tensor("v")) == [2, 0]


def test_a_size_that_can_not_be_told_is_one_line():
    with pytest.raises(ModelError, match=r"^the sizes of 'v' can't be told"):
        shape_of(gs.Variable("v", np.float32, [2, None]))


@pytest.mark.parametrize("declared", ["N, 7", "N, 3, 1", "", "5, 7"])
@pytest.mark.parametrize("where", ["output", "inside"])
def test_what_must_come_out_goes_before_what_is_declared(declared, where):
    """ONNX Runtime runs such files, too."""
    text = """<ir_version: 8, opset_import: ["" : 17]> f (float[N, 4] x) => (float[%s] y)
        <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
            v = MatMul (x, w)  y = Relu (v)
        }"""
    source = onnx.parser.parse_model(text % (declared if where == "output" else "N, 3"))
    if where == "inside":
        value = onnx.parser.parse_model(text % declared).graph.output[0]
        value.name = "v"
        source.graph.value_info.append(value)
    tensors = import_with_shapes(source).tensors()
    found = run_once(source, {"x": np.ones((2, 4), np.float32)})[0]
    for name in ("v", "y"):
        assert [*tensors[name].shape] == ["N", *found.shape[1:]]
