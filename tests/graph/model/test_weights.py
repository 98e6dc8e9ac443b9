"""Weights laid aside: nothing of a message is lost, and nothing large is left in it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from cloakify.errors import ModelError
from cloakify.graph.model.weights import SMALL, dense, set_weights_aside, split_weights
from cloakify.graph.model.working_graph import import_working
from cloakify.runtime import weights_beside


@pytest.fixture
def model() -> ModelProto:
    """Return a model of IR version 3, with every field of a message and its graph set."""
    made = onnx.parser.parse_model(
        f"""<ir_version: 3, opset_import: ["" : 17, "own" : 1], producer_name: "p",
             producer_version: "2", domain: "d", model_version: 7, doc_string: "text">
        f (float[N, 2] x) => (float[N, {SMALL}] y)
        <float[2, {SMALL}] w, float[{SMALL}] b, int64[1] axes = {{1}}, float[N, {SMALL}] h>
        {{ h = MatMul (x, w)  s = Add (h, b)  y = Neg (s) }}
        <domain: "own", opset_import: ["" : 17]> twice (a) => (c) {{ c = Add (a, a) }}"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (2, SMALL)), ("b", (SMALL,))):
        values = rng.random(shape, np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        made.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, shape))
    made.metadata_props.add(key="k", value="v")
    made.graph.metadata_props.add(key="g", value="h")
    made.graph.doc_string = "graph"
    return made


def test_a_split_message_and_its_weights_are_the_model(model: ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    skeleton, weights = split_weights(model)
    assert set(weights) == {"w"}
    kept = {tensor.name: tensor for tensor in (*skeleton.graph.initializer, *weights.values())}
    order = [tensor.name for tensor in model.graph.initializer]
    del skeleton.graph.initializer[:]
    skeleton.graph.initializer.extend(kept[name] for name in order)
    assert skeleton.SerializeToString(deterministic=True) == before
    assert model.SerializeToString(deterministic=True) == before


def test_a_working_graph_gives_the_weights_back(model: ModelProto) -> None:
    skeleton, weights = set_weights_aside(model)
    assert [value.name for value in skeleton.graph.input] == ["x", "w"]
    assert {tensor.name for tensor in skeleton.graph.initializer} == {"axes", "b"}
    exported = import_working(skeleton, weights).export()
    assert [value.name for value in exported.graph.input] == ["x"]
    x = np.random.default_rng(1).random((3, 2), np.float32)
    expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(
        onnx.reference.ReferenceEvaluator(exported).run(None, {"x": x}), expected
    )


def test_what_numpy_has_no_type_for_stays_in_the_message(
    model: ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_beside, "MOST_WITHIN", 100)
    sixteen = TensorProto(name="z", dims=[2 * SMALL], data_type=TensorProto.BFLOAT16)
    sixteen.raw_data = bytes(4 * SMALL)
    model.graph.initializer.append(sixteen)
    message, values = weights_beside.hand_over(model, onnxruntime.SessionOptions())
    assert set(values) == {"w"}
    skeleton = onnx.load_model_from_string(message)
    kept = {tensor.name: tensor.data_location for tensor in skeleton.graph.initializer}
    external, default = TensorProto.EXTERNAL, TensorProto.DEFAULT
    assert kept == {"w": external, "b": default, "axes": default, "z": default}


def test_the_standards_domain_goes_by_its_short_name() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["ai.onnx" : 18]> f (float[N] x) => (float[N] y) '
        "{ y = Relu (x) }"
    )
    skeleton, _ = set_weights_aside(model)
    assert [(entry.domain, entry.version) for entry in skeleton.opset_import] == [("", 18)]
    assert model.opset_import[0].domain == "ai.onnx"


def test_a_name_that_is_no_text_is_left_behind(model: ModelProto) -> None:
    model.graph.name = "qq"
    content = model.SerializeToString().replace(b"qq", b"q\xdd")
    skeleton, weights = split_weights(onnx.load_model_from_string(content))
    assert not skeleton.graph.name and skeleton.graph.doc_string == "graph"
    assert set(weights) == {"w"}


@given(st.data())
def test_sparse_tensors_are_written_out_or_refused(data: st.DataObject) -> None:
    """By a loop over their values; indices of either form, in their shape or not."""
    dims = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    linear = data.draw(st.booleans())
    ends = [int(np.prod(dims))] if linear else dims
    count = data.draw(st.integers(1, 3))
    rows = [[data.draw(st.integers(-1, end)) for end in ends] for _ in range(count)]
    values = np.arange(1, count + 1 + data.draw(st.integers(0, 1)), dtype=np.float32)
    indices = np.array(rows, np.int64)[:, 0] if linear else np.array(rows, np.int64)
    if data.draw(st.booleans()):
        indices = indices.astype(np.float32) if data.draw(st.booleans()) else indices
    sparse = onnx.SparseTensorProto(
        values=onnx.numpy_helper.from_array(values, "s"),
        indices=onnx.numpy_helper.from_array(indices),
        dims=dims,
    )
    inside = all(0 <= index < end for row in rows for index, end in zip(row, ends, strict=True))
    if not inside or len(values) != count or indices.dtype.kind != "i":
        with pytest.raises(ModelError, match="the sparse tensor 's' has"):
            dense(sparse)
        return
    expected = np.zeros(dims, np.float32)
    for value, row in zip(values, rows, strict=True):
        place = np.unravel_index(row[0], dims) if linear else tuple(row)
        expected[place] = value
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(dense(sparse)), expected)
