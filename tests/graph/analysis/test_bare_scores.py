"""Scores where there is no linear layer: against what the models' outputs are made of."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from cloakify.errors import HeadError, NoClassifierError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.task import Task

# Squared distances to three centres, [N, 3]: no linear layer leads there.
DISTANCES = """p = Unsqueeze (x, one)  q = Sub (p, c)  r = Mul (q, q)
    d = ReduceSum <keepdims = 0> (r, two)  s = Neg (d)"""
HEADER = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>"""
CONSTANTS = "int64[1] one = {1}, int64[1] two = {2}, float[1, 3, 2] c = {1, 2, 0, 1, -1, 0}"


def distances(ending: str, outputs: str) -> ModelProto:
    return onnx.parser.parse_model(
        f"{HEADER} f (float[N, 2] x) => ({outputs}) <{CONSTANTS}> {{ {DISTANCES}  {ending} }}"
    )


@pytest.mark.parametrize(
    ("ending", "outputs", "shipped", "task"),
    [
        ("y = Identity (s)", "float[N, 3] y", "s", Task.SINGLE),
        ("y = Softmax (s)", "float[N, 3] y", "s", Task.SINGLE),
        ("y = ArgMax <axis = 1> (s)", "int64[N, 1] y", "s", Task.SINGLE),
        # Both a label and scores: the scores are taken.
        (
            "l = ArgMax <axis = 1> (s)  y = Softmax (s)",
            "int64[N, 1] l, float[N, 3] y",
            "s",
            "single",
        ),
        ("y = Sigmoid (s)", "float[N, 3] y", "s", Task.MULTILABEL),
        # Probabilities that are mixed: an ensemble.
        (
            "a = Softmax (s)  b = Softmax (d)  t = Mul (a, b)  y = Identity (t)",
            "float[N, 3] y",
            "t",
            Task.SINGLE,
        ),
        ("t = ReduceMax <axes = [1]> (s)  y = Sigmoid (t)", "float[N, 1] y", "t", Task.BINARY),
    ],
)
def test_the_walk_ends_at_the_scores(ending, outputs, shipped, task):
    model = distances(ending, outputs)
    with pytest.raises(HeadError):
        find_classifier(model)
    found = find_classifier(model, needs_head=False)
    assert (found.head, found.scores.shipped, found.scores.task) == (None, shipped, task)
    assert found.scores.features == shipped
    assert found.scores.num_classes == (2 if task is Task.BINARY else 3)
    assert "no linear layer" in found.problem


def test_a_list_of_answers_is_told_as_that():
    """As `MultiOutputClassifier` is exported: the probabilities of each in a sequence."""
    model = distances(
        "a = Softmax (s)  b = Softmax (d)  y = SequenceConstruct (a, b)", "seq(float[N, 3]) y"
    )
    for needs_head in (True, False):
        with pytest.raises(NoClassifierError, match="answers of 2 classifiers"):
            find_classifier(model, needs_head=needs_head)


def whole(op: str, **attributes: object) -> ModelProto:
    """Return a classifier of one node of ai.onnx.ml, whose scores have no declared shape."""
    node = helper.make_node(op, ["x"], ["label", "scores"], op, domain="ai.onnx.ml", **attributes)
    mapped = helper.make_node(
        "ZipMap", ["scores"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[5, 9, 7]
    )
    values = helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph(
        [node, mapped],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 2])],
        [
            helper.make_tensor_value_info("label", 7, ["N"]),
            helper.make_value_info("map", helper.make_sequence_type_proto(values)),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)])


@pytest.mark.parametrize("op", ["TreeEnsembleClassifier", "SVMClassifier"])
def test_classifiers_in_one_node_have_scores_beside_their_label(op):
    found = find_classifier(whole(op, classlabels_int64s=[5, 9, 7]), needs_head=False)
    assert found.scores.shipped == "scores"
    assert found.scores.num_classes == 3


@pytest.mark.parametrize(
    ("ending", "outputs", "refusal"),
    [
        (
            "y = Identity (s)  z = Exp (d)",
            "float[N, 3] y, float[N, 3] z",
            "'y', 'z' hold different scores; choose one with --output-name",
        ),
        ("y = Cast <to = 7> (d)", "int64[N, 3] y", "no output holds scores"),
    ],
)
def test_outputs_that_tell_no_scores_are_refused(ending, outputs, refusal):
    model = distances(ending, outputs)
    with pytest.raises(HeadError, match=refusal):
        find_classifier(model, needs_head=False)


def test_trees_that_tell_a_number_are_a_regression():
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml", n_targets=1
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 2])],
        [helper.make_tensor_value_info("y", 1, ["N", 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)])
    for needs_head in (True, False):
        with pytest.raises(HeadError, match="a regression"):
            find_classifier(model, needs_head=needs_head)


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_the_state_that_a_recurrent_layer_is_given_again_is_no_answer(op):
    """Streaming models put it out beside their answer, for the next piece of the stream."""
    cell, gates = (", c" if op == "LSTM" else ""), (4 if op == "LSTM" else 3)
    given = ", , h0" + ", c0" * bool(cell)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[1, N, 6] x, float[1, N, 8] h0, float[1, N, 8] c0)
        => (float[N, 1] y, float[1, N, 8] h{cell.replace("c", "float[1, N, 8] c")})
        {{ s, h{cell} = {op} <hidden_size = 8> (x, wi, wr, {given})
           q = Squeeze (h, first)  z = Gemm (q, w)  y = Sigmoid (z) }}"""
    )
    shapes = {"wi": (1, gates * 8, 6), "wr": (1, gates * 8, 8), "w": (8, 1)}
    for name, shape in shapes.items():
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    found = find_classifier(model)
    assert found.head is not None
    assert (found.head.features, found.scores.shipped) == ("q", "z")


def test_the_answer_of_a_recurrent_layer_is_an_embedding():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        f (float[T, N, 2] x) => (float[N, 3] y)
        <float[1, 9, 2] w, float[1, 9, 3] r, int64[1] first = {0}>
        { a, h = GRU <hidden_size = 3> (x, w, r)  y = Squeeze (h, first) }"""
    )
    for name, shape in (("w", (1, 9, 2)), ("r", (1, 9, 3))):
        weight = onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        model.graph.initializer.append(weight)
    with pytest.raises(HeadError, match="an embedding"):
        find_classifier(model, needs_head=False)


@pytest.mark.parametrize("damage", ["inputs", "outputs", "labels"])
@pytest.mark.parametrize("op", ["TreeEnsembleClassifier", "ArrayFeatureExtractor", "SVMClassifier"])
def test_damaged_nodes_are_no_scores_and_no_traceback(op, damage):
    model = whole("TreeEnsembleClassifier", classlabels_int64s=[5, 9, 7])
    node = model.graph.node[0]
    node.op_type = op
    if damage == "inputs":
        del node.input[:]
    elif damage == "outputs":
        del node.output[1:]
    else:
        node.attribute[0].CopyFrom(helper.make_attribute("classlabels_int64s", "abc"))
    try:
        found = find_classifier(model, needs_head=False)
    except HeadError as error:
        assert "\n" not in str(error)
    else:
        assert found.scores.num_classes == 3
