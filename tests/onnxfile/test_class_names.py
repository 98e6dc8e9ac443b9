"""Where models say what their classes are called, as exporters write it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cloakify.onnxfile import class_names, parse_names


def model(
    metadata: dict[str, str] | None = None,
    nodes: list[onnx.NodeProto] | None = None,
    tensors: list[TensorProto] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes or [], "g", [], [], tensors or [])
    made = helper.make_model(graph)
    helper.set_model_props(made, metadata or {})
    return made


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'cat', 1: \"dog\", 2: 'emu'}"),  # ultralytics
        ("id2label", '{"0": "cat", "1": "dog", "2": "emu"}'),  # transformers
        ("label2id", '{"emu": 2, "cat": 0, "dog": 1}'),
        ("Labels", "cat\ndog\nemu\n"),
        ("classes", '["cat", "dog", "emu"]'),
        ("class_names", "cat,dog, emu"),
        ("label_map", "['cat', 'dog', 'emu']"),
    ],
)
def test_metadata(key: str, text: str) -> None:
    assert class_names(model({key: text, "author": "a, b, c"}), 3) == ("cat", "dog", "emu")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cat,dog",
        "cat,cat,dog",
        '{"0": "cat", "2": "dog", "3": "emu"}',
        "[" * 100_000,
        "{0: 'cat', 1: ",
        "[['a'], ['b'], ['c']]",
        '{"a": {}, "b": [], "c": 1.5}',
    ],
)
def test_what_is_no_list_of_so_many_classes(text: str) -> None:
    assert class_names(model({"names": text}), 3) is None


def test_places_that_contradict_each_other() -> None:
    assert class_names(model({"names": "a,b,c", "labels": "c,b,a"}), 3) is None


@pytest.mark.parametrize(
    ("op_type", "attributes", "wanted"),
    [
        ("ZipMap", {"classlabels_strings": ["a", "b", "é"]}, ("a", "b", "é")),
        ("ZipMap", {"classlabels_int64s": [3, 5, 8]}, ("3", "5", "8")),
        ("SVMClassifier", {"classlabels_ints": [0, 1, 2]}, ("0", "1", "2")),
        (
            "LabelEncoder",
            {"keys_int64s": [2, 0, 1], "values_strings": ["c", "a", "b"]},
            ("a", "b", "c"),
        ),
        ("LabelEncoder", {"keys_int64s": [7, 8, 9], "values_strings": ["c", "a", "b"]}, None),
    ],
)
def test_operators(
    op_type: str, attributes: dict[str, object], wanted: tuple[str, ...] | None
) -> None:
    node = helper.make_node(op_type, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    assert class_names(model(nodes=[node]), 3) == wanted


def test_a_table_of_names() -> None:
    table = numpy_helper.from_array(np.array(["a", "b", "c"], object), "classes")
    node = helper.make_node("ArrayFeatureExtractor", ["classes", "i"], ["y"], domain="ai.onnx.ml")
    assert class_names(model(nodes=[node], tensors=[table]), 3) == ("a", "b", "c")
    assert class_names(model(nodes=[node], tensors=[table]), 4) is None


@given(st.text())
def test_any_text_is_read_or_is_none(text: str) -> None:
    names = parse_names(text)
    assert names is None or (len(names) == len(set(names)) and all(names))
