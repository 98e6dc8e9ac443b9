"""Where models say what their classes are called, as exporters write it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cloakify.onnxfile import class_names, parse_names, readings


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


SAID = ("tench, Tinca tinca", "goldfish", "great white shark")
SYNSETS = ("n01440764", "n01443537", "n01484850")


def as_written() -> dict[str, str]:
    """The classes in every form, those with numbers not in their order."""
    last_first = list(enumerate(SAID))[::-1]
    return {
        "keras": json.dumps({k: [SYNSETS[k], name] for k, name in last_first}),
        "pairs": json.dumps([[k, name] for k, name in last_first]),
        "pairs without numbers": json.dumps([*zip(SYNSETS, SAID, strict=True)]),
        "objects": json.dumps([{"id": k, "name": name} for k, name in last_first]),
        "coco": json.dumps({"categories": [{"id": 7 * k + 1, "name": n} for k, n in last_first]}),
        "objects by number": json.dumps({str(k): [SYNSETS[k], n] for k, n in last_first}),
        "name to number": json.dumps({name: k for k, name in last_first}),
        "name to number as text": json.dumps({name: str(k) for k, name in last_first}),
        "config": json.dumps({"num_labels": 3, "id2label": dict(last_first)}),
        "from 1": json.dumps({k + 1: name for k, name in last_first}),
        "blank": "\n".join(f"{k} {name}" for k, name in last_first),
        "colon": "\n".join(f"{k}: {name}" for k, name in last_first),
        "comma": "\n".join(f"{k},{name}" for k, name in last_first),
        "quoted": "\n".join(f'{k},"{name}"' for k, name in last_first),
        "tab": "\n".join(f"{k}\t{name}" for k, name in last_first),
        "from 1, blank": "\n".join(f"{k + 1} {name}" for k, name in last_first),
        "behind": "\n".join(f'"{name}",{k}' for k, name in last_first),
        "header": "\n".join(["id,name", *(f'{k},"{name}"' for k, name in last_first)]),
        "header, three": "\n".join(
            ["index;wnid;class_name", *(f"{k};{SYNSETS[k]};{name}" for k, name in last_first)]
        ),
        "header, names alone": "\n".join(
            ["wnid;name", *map(";".join, zip(SYNSETS, SAID, strict=True))]
        ),
        "yaml": "\n".join(["path: x", "nc: 3", "names:", *(f"- {name}" for name in SAID), "a: b"]),
        "yaml, deeper": "\n".join(["names:  # 3", *(f"  - '{name}'" for name in SAID)]),
        "yaml, numbers": "\n".join(
            ["# all", "names:", *(f"  {k}: {name}" for k, name in last_first), "", "download: |"]
        ),
        "yaml, list": "\n".join(f"- {name}" for name in SAID),
        "yaml, brackets": f"nc: 3\nnames: ['{SAID[0]}', {SAID[1]},\n  {SAID[2]}]\nval: x",
        "yaml, braces": f"names: {{1: {SAID[1]}, 0: '{SAID[0]}', 2: {SAID[2]}}}",
        "lines": "\n".join(SAID),
    }


@pytest.mark.parametrize("form", as_written())
def test_every_form_gives_the_same(form: str) -> None:
    assert parse_names(as_written()[form]) == SAID


@pytest.mark.parametrize("form", ["keras", "pairs without numbers", "header, three"])
def test_either_name_of_a_class_can_be_read(form: str) -> None:
    assert list(readings(as_written()[form]))[:2] == [SAID, SYNSETS]


@pytest.mark.parametrize(
    "text",
    [
        # Names that hold numbers and signs themselves.
        "digit 0\ndigit 1\ndigit 2",
        "1 series\n3 series\n5 series",
        "a, b\nc, d\ne, f",
        "a, b, c\nd, e, f\ng, h, i",
        "name\ncat\ndog",
        "class: mammal\norder: bird\nnames of fish",
    ],
)
def test_names_stand_as_they_are_written_where_nothing_counts_them(text: str) -> None:
    assert parse_names(text) == tuple(text.split("\n"))


def test_a_model_is_not_told_what_its_file_of_words_is_not() -> None:
    words = "\n".join(map(" ".join, zip(SYNSETS, SAID, strict=True)))
    assert list(readings(words)) == [tuple(words.split("\n")), SYNSETS, SAID]
