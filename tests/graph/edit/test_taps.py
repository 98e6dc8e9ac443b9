"""A tapped model returns inner values and has nothing more in it than they need."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.errors import HeadError
from cloakify.graph.edit.taps import head_model, tap
from cloakify.runtime import Device, Session

TEXT = """
<ir_version: %d, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
f (float[N, 4] x) => (seq(map(int64, float)) y)
<float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}>
{
    f = Relu (x)
    m = MatMul (f, w)
    l = Add (m, b)
    p = Softmax (l)
    y = ai.onnx.ml.ZipMap <classlabels_int64s: ints = [0, 1, 2]> (p)
}
"""
X = np.arange(-4, 4, dtype=np.float32).reshape(2, 4)
W = np.arange(1, 13, dtype=np.float32).reshape(4, 3)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return Session(model, Device("cpu"), threads=1).run(feeds)


def floats(name: str, *shape: int | None) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def test_values_come_in_the_order_asked_for():
    model = onnx.parser.parse_model(TEXT % 8)
    before = model.SerializeToString()
    cut = tap(model, ["l", "f"])
    assert model.SerializeToString() == before
    assert [node.op_type for node in cut.graph.node] == ["Relu", "MatMul", "Add"]
    found = run(cut, {"x": X})
    assert list(found) == ["l", "f"]
    np.testing.assert_array_equal(found["f"], X.clip(0))
    np.testing.assert_allclose(found["l"], X.clip(0) @ W + [1, 2, 3])


def test_an_input_and_an_output_can_be_tapped():
    found = run(tap(onnx.parser.parse_model(TEXT % 8), ["x", "p"]), {"x": X})
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_allclose(found["p"].sum(1), [1, 1], rtol=1e-6)


def test_what_a_subgraph_reads_is_kept():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        f (float[2] x, bool c) => (float[2] y)
        {
            a = Neg (x)
            b = Abs (x)
            unused = Exp (x)
            y = If (c) <
                then_branch = t () => (float[2] s) { s = Identity (a) },
                else_branch = e () => (float[2] u) {
                    u = If (c) <
                        then_branch = tt () => (float[2] v) { v = Identity (a) },
                        else_branch = ee () => (float[2] q) { q = Identity (b) }
                    >
                }
            >
        }
    """)
    cut = tap(model, ["y"])
    assert [node.op_type for node in cut.graph.node] == ["Neg", "Abs", "If"]
    found = run(cut, {"x": np.array([1, -2], np.float32), "c": np.array(False)})
    np.testing.assert_array_equal(found["y"], [1, 2])


@pytest.mark.parametrize("ir_version", [3, 8])
def test_the_head_alone_maps_features_to_logits(ir_version):
    model = onnx.parser.parse_model(TEXT % ir_version)
    if ir_version == 3:
        model.graph.input.extend([floats("w", 4, 3), floats("b", 3)])
    part = head_model(model, floats("f", None, 4), "l")
    assert [value.name for value in part.graph.input] == ["f"]
    np.testing.assert_allclose(run(part, {"f": X})["l"], X @ W + [1, 2, 3])


def test_logits_that_pass_by_the_features_are_refused():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}>
        { f = Relu (x)  m = MatMul (f, w)  y = Add (m, x) }
    """)
    with pytest.raises(HeadError, match="the logits 'y' depend on 'x' not only by the features"):
        head_model(model, floats("f", None, 4), "y")
    assert head_model(model, floats("f", None, 4), "m").graph.node[0].op_type == "MatMul"


@pytest.mark.parametrize(
    "count",
    [
        "k = Shape <start = 0, end = 1> (x)",
        "s = Shape (x)  i = Gather (s, zero)  k = Unsqueeze (i, axes)",
        "o = Constant <value = int64 {0}> ()  s = Shape (x)  i = Gather (s, o)"
        "  k = Unsqueeze (i, axes)",
    ],
)
def test_how_many_samples_there_are_the_features_tell_as_well(count: str):
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 4] x) => (float[N, 3] y)
        <int64 zero = {{0}}, int64[1] axes = {{0}}, int64[1] three = {{3}},
         float[4, 3] w = {{1,2,3,4,5,6,7,8,9,10,11,12}}, float[1, 3] b = {{1, 2, 3}}>
        {{ f = Relu (x)  m = MatMul (f, w)  {count}  c = Concat <axis = 0> (k, three)
           e = Expand (b, c)  y = Add (m, e) }}
    """
    part = head_model(onnx.parser.parse_model(text), floats("f", None, 4), "y")
    assert [value.name for value in part.graph.input] == ["f"]
    np.testing.assert_allclose(run(part, {"f": X})["y"], X @ W + [1, 2, 3])
    # How wide they are is not how wide the input is.
    wide = text.replace("end = 1", "end = 2").replace("zero = {0}", "zero = {1}")
    wide = wide.replace("int64 {0}", "int64 {1}")
    with pytest.raises(HeadError, match="'y' depend on 'x'"):
        head_model(onnx.parser.parse_model(wide), floats("f", None, 4), "y")
