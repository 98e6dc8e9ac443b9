"""A model cut at a tensor: packed samples, fresh names, old opsets."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from cloakify.errors import ModelError
from cloakify.graph.edit.cut import Packing, Part, cut_inside, inputs_beside, part_of

TYPES = {TensorProto.FLOAT: np.float32, TensorProto.INT64: np.int64, TensorProto.BOOL: np.bool_}


@given(st.data())
def test_what_is_packed_can_be_taken_out(data: st.DataObject):
    """ONNX Runtime unpacks what NumPy packed."""
    kinds = [TensorProto.FLOAT, *data.draw(st.lists(st.sampled_from(list(TYPES)), max_size=3))]
    shapes = [
        (data.draw(st.integers(1, 3)), *data.draw(st.lists(st.integers(1, 3), max_size=2)))
        for _ in kinds
    ]
    samples = data.draw(st.integers(1, 4))
    random = np.random.default_rng(0)
    arrays = [
        random.integers(0, 2, (samples * shape[0], *shape[1:])).astype(TYPES[kind])
        for kind, shape in zip(kinds, shapes, strict=True)
    ]
    names = [f"v{place}" for place in range(len(kinds))]
    packing = Packing(tuple(Part(*part) for part in zip(names, shapes, kinds, strict=True)))
    for name, array, part in zip(names, arrays, packing.parts, strict=True):
        assert part_of(name, array, samples) == part
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", [name], [f"{name}_out"]) for name in names],
            "g",
            [
                onnx.helper.make_tensor_value_info(name, kind, [None] * len(shape))
                for name, kind, shape in zip(names, kinds, shapes, strict=True)
            ],
            [onnx.ValueInfoProto(name=f"{name}_out") for name in names],
        ),
        opset_imports=[onnx.helper.make_opsetid("", data.draw(st.sampled_from([11, 17])))],
        ir_version=8,
    )
    outputs = [f"{name}_out" for name in names]
    assert inputs_beside(model, "v0", outputs) == names[1:]
    cut, packed = cut_inside(model, "v0", packing, outputs, None)
    values = packing.pack(arrays, samples)
    assert values.shape == (samples, *packing.sample_shape)
    found = ort.InferenceSession(cut.SerializeToString()).run(None, {packed: values})
    for array, back in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(packing.tensor_of(values).reshape(arrays[0].shape), arrays[0])


def test_names_that_the_model_has_are_not_taken_again():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        f (int64[N, 2] cloakify_sample, int64[N, 2] cloakify_part) => (float[N, 2] y)
        <float[3, 1] table = {1, 2, 3}> {
            cloakify_sizes = Gather(table, cloakify_sample)
            cloakify_unpack = ReduceMax <axes = [2], keepdims = 0> (cloakify_sizes)
            cloakify_part_1 = Cast <to = 1> (cloakify_part)
            y = Add(cloakify_unpack, cloakify_part_1)
        }"""
    )
    parts = (
        Part("cloakify_sizes", (1, 2, 1), TensorProto.FLOAT),
        Part("cloakify_part", (1, 2), TensorProto.INT64),
    )
    cut, packed = cut_inside(model, "cloakify_sizes", Packing(parts), ["y"], None)
    assert packed == "cloakify_sample_1"
    session = ort.InferenceSession(cut.SerializeToString())
    (y,) = session.run(None, {packed: np.array([[1, 2, 10, 20]], np.float32)})
    np.testing.assert_array_equal(y, [[11, 22]])


def test_other_results_of_the_node_stay():
    """A node yields the tensor and something else that is needed: only the tensor is replaced."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 4] x) => (float[N, 2] y) {
            a, b = Split <axis = 1> (x)
            y = Mul(a, b)
        }"""
    )
    parts = (
        Part("a", (1, 2), TensorProto.FLOAT),
        Part("x", (1, 4), TensorProto.FLOAT),
    )
    assert inputs_beside(model, "a", ["y"]) == ["x"]
    cut, packed = cut_inside(model, "a", Packing(parts), ["y"], None)
    session = ort.InferenceSession(cut.SerializeToString())
    (y,) = session.run(None, {packed: np.array([[5, 6, 0, 0, 2, 3]], np.float32)})
    np.testing.assert_array_equal(y, [[10, 18]])
    with pytest.raises(ModelError, match="need input 'x', which samples do not hold"):
        cut_inside(model, "a", Packing(parts[:1]), ["y"], None)


def test_a_tensor_that_leads_nowhere():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) { y = Relu(x) z = Tanh(x) }"""
    )
    with pytest.raises(ModelError, match="'z' does not lead to the logits 'y'"):
        inputs_beside(model, "z", ["y"])


@pytest.mark.parametrize("shape", [(), (5, 2)])
def test_first_axes_must_count_samples(shape: tuple[int, ...]):
    with pytest.raises(ModelError, match="its first axis must count them"):
        part_of("t", np.zeros(shape, np.float32), 2)
