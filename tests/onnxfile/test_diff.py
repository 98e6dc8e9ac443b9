"""The diff is empty exactly for equal bytes, and names the place of any single edit."""

from __future__ import annotations

import struct
from collections.abc import Callable

import onnx
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from cloakify.onnxfile import compare_models


def copy(model: ModelProto) -> ModelProto:
    twin = ModelProto()
    twin.CopyFrom(model)
    return twin


def flip_weight_bit(model: ModelProto, data: st.DataObject) -> str:
    tensor = model.graph.initializer[data.draw(st.integers(0, 1))]
    raw = bytearray(tensor.raw_data)
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    tensor.raw_data = bytes(raw)
    return f"graph.initializer[{tensor.name}].raw_data"


def change_attribute(model: ModelProto, data: st.DataObject) -> str:
    attribute = model.graph.node[0].attribute[0]
    (bits,) = struct.unpack("<I", struct.pack("<f", attribute.f))
    bits ^= 1 << data.draw(st.integers(0, 31))
    (attribute.f,) = struct.unpack("<f", struct.pack("<I", bits))
    return "graph.node[first].attribute[alpha].f"


def drop_attribute(model: ModelProto, data: st.DataObject) -> str:
    del model.graph.node[2].attribute[0]
    return "graph.node[head].attribute[transB]"


def drop_metadata(model: ModelProto, data: st.DataObject) -> str:
    del model.metadata_props[0]
    return "metadata_props[author]"


def repeat_metadata(model: ModelProto, data: st.DataObject) -> str:
    model.metadata_props.add().CopyFrom(model.metadata_props[0])
    return "metadata_props[author#2]"


def change_metadata(model: ModelProto, data: st.DataObject) -> str:
    model.metadata_props[0].value += data.draw(st.text(min_size=1))
    return "metadata_props[author].value"


def reorder_nodes(model: ModelProto, data: st.DataObject) -> str:
    order = data.draw(st.permutations(range(3)).filter(lambda p: list(p) != [0, 1, 2]))
    nodes = [model.graph.node[place].SerializeToString() for place in order]
    del model.graph.node[:]
    model.graph.node.extend(onnx.NodeProto.FromString(node) for node in nodes)
    return "graph.node["


def repeat_node(model: ModelProto, data: st.DataObject) -> str:
    model.graph.node.add().CopyFrom(model.graph.node[1])
    return "graph.node[second#2]"


def rename_node(model: ModelProto, data: st.DataObject) -> str:
    node = model.graph.node[data.draw(st.integers(0, 2))]
    path = f"graph.node[{node.name}]"
    node.name += "_"
    return path


def rewire(model: ModelProto, data: st.DataObject) -> str:
    model.graph.node[2].input[0] = "h"
    return "graph.node[head].input[0]"


def drop_input(model: ModelProto, data: st.DataObject) -> str:
    del model.graph.node[2].input[2]
    return "graph.node[head].input[2]"


def change_operator(model: ModelProto, data: st.DataObject) -> str:
    model.graph.node[1].op_type = "Sigmoid"
    return "graph.node[second].op_type"


def change_shape(model: ModelProto, data: st.DataObject) -> str:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return "graph.input[x].type.tensor_type.shape.dim[0].dim_"


def change_opset(model: ModelProto, data: st.DataObject) -> str:
    model.opset_import[1].version = 4
    return "opset_import[ai.onnx.ml].version"


def change_default_opset(model: ModelProto, data: st.DataObject) -> str:
    model.opset_import[0].version += 1
    return "opset_import[0].version"


def set_doc_string(model: ModelProto, data: st.DataObject) -> str:
    # An empty string that is present is another message than one without.
    model.doc_string = data.draw(st.text(max_size=4))
    return "doc_string"


def set_model_version(model: ModelProto, data: st.DataObject) -> str:
    model.model_version = data.draw(st.integers(0, 9))
    return "model_version"


def add_unknown_field(model: ModelProto, data: st.DataObject) -> str:
    targets: list[tuple[str, Message]] = [
        ("", model),
        ("graph.", model.graph),
        ("graph.node[head].", model.graph.node[2]),
        ("graph.initializer[weight].", model.graph.initializer[0]),
    ]
    path, message = data.draw(st.sampled_from(targets))
    number = data.draw(st.integers(500, 10_000))
    key, value = number << 3, data.draw(st.integers(0, 127))
    coded = bytearray()
    while key > 127:
        coded.append(key & 127 | 128)
        key >>= 7
    message.MergeFromString(bytes(coded) + bytes([key, value]))
    return f"{path}(unknown fields)"


EDITS: list[Callable[[ModelProto, st.DataObject], str]] = [
    flip_weight_bit,
    change_attribute,
    drop_attribute,
    drop_metadata,
    repeat_metadata,
    change_metadata,
    reorder_nodes,
    repeat_node,
    rename_node,
    rewire,
    drop_input,
    change_operator,
    change_shape,
    change_opset,
    change_default_opset,
    set_doc_string,
    set_model_version,
    add_unknown_field,
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_single_edit_is_found_at_its_place(small, edit, data):
    edited = copy(small)
    path = edit(edited, data)
    for pair in ((small, edited), (edited, small)):
        found = compare_models(*pair)
        assert found
        assert any(difference.path.startswith(path) for difference in found), (path, found)
        assert all(str(difference) for difference in found)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_diff_is_empty_exactly_for_equal_bytes(small, data):
    one, other = copy(small), copy(small)
    for model in (one, other):
        for edit in data.draw(st.lists(st.sampled_from(EDITS[:6] + EDITS[-3:]), max_size=3)):
            if edit is not drop_metadata or len(model.metadata_props):
                try:
                    edit(model, data)
                except IndexError:
                    continue
    equal = one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    assert (not compare_models(one, other)) == equal


def test_a_copy_has_no_difference(small):
    assert compare_models(small, copy(small)) == []


@pytest.mark.parametrize("values", [(0.0, -0.0), (float("nan"), 1.0), (1.0, 1.0000001)])
def test_floats_are_compared_by_their_bits(small, values):
    before, after = copy(small), copy(small)
    before.graph.initializer[0].float_data.extend([1.0, values[0]])
    after.graph.initializer[0].float_data.extend([1.0, values[1]])
    (difference,) = compare_models(before, after)
    assert difference.path == "graph.initializer[weight].float_data[1]"
    assert compare_models(before, copy(before)) == []


def test_an_inserted_node_is_one_difference(small):
    edited = copy(small)
    edited.graph.node.insert(2, onnx.helper.make_node("Neg", ["f"], ["g"], "new"))
    (difference,) = compare_models(small, edited)
    assert (difference.path, difference.kind) == ("graph.node[new]", "added")
    assert difference.before is None and difference.after.op_type == "Neg"


def test_unnamed_nodes_are_known_by_their_outputs(small):
    before, after = copy(small), copy(small)
    for model in (before, after):
        for node in model.graph.node:
            node.name = ""
    after.graph.node[1].input[0] = "x"
    (difference,) = compare_models(before, after)
    assert str(difference) == "graph.node[f].input[0]: 'h' became 'x'"


def test_a_moved_node_that_changed_is_both(small):
    edited = copy(small)
    first = onnx.NodeProto.FromString(edited.graph.node[0].SerializeToString())
    first.op_type = "Selu"
    del edited.graph.node[0]
    edited.graph.node.append(first)
    found = {(difference.path, difference.kind) for difference in compare_models(small, edited)}
    assert found == {("graph.node[first]", "moved"), ("graph.node[first].op_type", "changed")}
