"""Models that are no classifiers are called what they are; classifiers of odd form are none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.graph.edit.taps import tap


def model(
    body: str, x: str = "float[N, 8] x", y: str = "float[N, M] y", **weights: tuple[int, ...]
) -> ModelProto:
    """Return a model with weights of ones in those shapes."""
    given = ", ".join(
        f"float[{', '.join(map(str, shape))}] {name} = {{{', '.join(['1'] * int(np.prod(shape)))}}}"
        for name, shape in weights.items()
    )
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f ({x}) => ({y}) <int64[1] axis = {{1}}, int64[3] image = {{-1, 4, 4}}{", " * bool(given)}
        {given}> {{ {body} }}"""
    )


def refusal(*args: str, **weights: tuple[int, ...]) -> str:
    with pytest.raises(HeadError) as error:
        find_classifier(model(*args, **weights))
    text = str(error.value)
    assert "--head" not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("body", "x", "y", "w", "found"),
    [
        # Token by token, of a known and of an unknown number.
        ("y = MatMul (x, w)", "float[N, 40, 8] x", "float[N, 40, 5] y", (8, 5), "40 positions"),
        ("y = MatMul (x, w)", "float[N, T, 8] x", "float[N, T, 5] y", (8, 5), "along 'T'"),
        # Classes first.
        ("y = MatMul (w, x)", "float[N, 8, 40] x", "float[N, 5, 40] y", (5, 8), "40 positions"),
        # Time first, as CTC's.
        ("y = MatMul (x, w)", "float[T, N, 8] x", "float[T, N, 5] y", (8, 5), "along 'N'"),
        # Pixel by pixel.
        (
            "y = Conv (x, w)",
            "float[N, 8, 6, 7] x",
            "float[N, 5, 6, 7] y",
            (5, 8, 1, 1),
            "42 positions",
        ),
        (
            "s = Conv (x, w)  y = ArgMax <axis = 1> (s)",
            "float[N, 8, 6, 7] x",
            "int64[N, 1, 6, 7] y",
            (5, 8, 1, 1),
            "42 positions",
        ),
    ],
)
def test_scores_at_many_positions(body, x, y, w, found):
    assert found in refusal(body, x, y, w=w)


def test_one_sample_at_a_time_may_leave_the_axis_of_samples_out():
    body = "e = Gather (table, ids)  l = MatMul (e, w)  y = Reshape (l, flat)"
    ids, y = "int64[1, words] ids", "float[words] y"
    text = refusal(body.replace("flat", "axis"), ids, y, table=(9, 8), w=(8, 1))
    assert "1 scores at every position along 'words': a recogniser, a tagger" in text


@pytest.mark.parametrize(("axis", "is_open"), [(0, True), (1, False)])
def test_what_only_a_run_tells_is_left_open(axis: int, is_open: bool):
    # How many numbers are not zero the data decide.
    body = "z = NonZero (x)  t = Transpose (z)  f = Cast <to = 1> (t)  "
    body += f"a = Constant <value_ints = [{axis}]> ()  u = Unsqueeze (f, a)  "
    body += "l = MatMul (u, w)  y = Softmax (l)"
    found = find_classifier(model(body, "float[N, 8] x", "float[K, L, 5] y", w=(2, 5)))
    assert found.positions_open is is_open


def test_outputs_with_a_layer_each_are_several_tasks():
    body = "h = Relu (x)  a = MatMul (h, w)  b = MatMul (h, v)  y = Softmax (a)  z = Softmax (b)"
    outputs = "float[N, 5] y, float[N, 5] z"
    text = refusal(body, "float[N, 8] x", outputs, w=(8, 5), v=(8, 5))
    assert "outputs 'y', 'z' are made by a layer each" in text
    assert "several tasks; choose one with --output-name" in text
    chosen = model(body, "float[N, 8] x", outputs, w=(8, 5), v=(8, 5))
    found = find_classifier(chosen, Wanted(output="z"))
    assert found.head is not None
    assert found.head.weight == "v"


@pytest.mark.parametrize(
    ("body", "x", "y", "weights"),
    [
        (
            "t = MatMul (x, w)  y = ReduceMean <axes = [1], keepdims = 0> (t)",
            "float[N, 40, 8] x",
            "float[N, 5] y",
            {"w": (8, 5)},
        ),
        (
            "t = MatMul (x, w)  y = Gather <axis = 1> (t, first)",
            "float[N, 40, 8] x",
            "float[N, 5] y",
            {"w": (8, 5)},
        ),
        ("y = MatMul (x, w)", "float[N, 1, 8] x", "float[N, 1, 5] y", {"w": (8, 5)}),
        (
            "c = Conv (x, w)  y = GlobalAveragePool (c)",
            "float[N, 8, 6, 7] x",
            "float[N, 5, 1, 1] y",
            {"w": (5, 8, 1, 1)},
        ),
    ],
)
def test_positions_that_come_to_one_answer_are_a_classifiers(body, x, y, weights):
    made = model(body, x, y, **weights)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "first"))
    assert find_classifier(made).head.num_classes == 5


def test_a_picked_token_needs_no_declared_shapes():
    """Exporters leave out the shapes of inner values."""
    made = model(
        "r = Relu (x)  t = MatMul (r, w)  b = Add (t, v)  y = Gather <axis = 1> (b, first)",
        "float[N, 40, 8] x",
        "float[M, 5] y",
        w=(8, 5),
        v=(5,),
    )
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "first"))
    head = find_classifier(made).head
    assert (head.linear, head.logits) == ("b", "y")


@pytest.mark.parametrize(
    ("ending", "what"),
    [
        ("y = LpNormalization <axis = 1> (l)", "an embedding"),
        ("n = ReduceL2 <axes = [1]> (l)  y = Div (l, n)", "an embedding"),
        ("y = Tanh (l)", "an embedding or a regression"),
    ],
)
def test_embeddings(ending, what):
    assert what in refusal(f"l = MatMul (x, w)  {ending}", w=(8, 3))


@pytest.mark.parametrize("bend", ["Relu", "Exp", "Softplus", "Tanh"])
def test_one_number_that_is_no_probability(bend):
    assert "a regression" in refusal(f"l = MatMul (x, w)  y = {bend} (l)", w=(8, 1))


@pytest.mark.parametrize("ending", ["Sigmoid", "Identity", "Tanh"])
def test_what_gives_back_as_much_as_it_takes(ending):
    body = f"h = MatMul (x, u)  r = Relu (h)  l = MatMul (r, w)  y = {ending} (l)"
    assert "autoencoder" in refusal(body, u=(8, 3), w=(3, 8))
    body = (
        "f = Flatten (x)  h = MatMul (f, u)  r = Relu (h)  l = MatMul (r, w)  "
        f"s = {ending} (l)  y = Reshape (s, image)"
    )
    x, y = "float[N, 4, 4] x", "float[A, B, C] y"
    assert "autoencoder" in refusal(body, x, y, u=(16, 3), w=(3, 16))


def test_a_classifier_with_as_many_classes_as_inputs():
    body = "h = MatMul (x, u)  r = Relu (h)  l = MatMul (r, w)  y = Softmax (l)"
    assert find_classifier(model(body, u=(8, 3), w=(3, 8))).head.num_classes == 8


def test_images_that_come_out_of_convolutions():
    body = (
        "h = Conv <pads = [1, 1, 1, 1]> (x, u)  r = Relu (h)  y = Conv <pads = [1, 1, 1, 1]> (r, w)"
    )
    weights = {"u": (4, 1, 3, 3), "w": (1, 4, 3, 3)}
    x = "float[N, 1, 6, 6] x"
    assert "autoencoder" in refusal(body, x, "float[N, 1, 6, 6] y", **weights)
    weights["w"] = (3, 4, 3, 3)
    assert "a segmenter" in refusal(body, x, "float[N, 3, 6, 6] y", **weights)


def test_a_detector_by_its_boxes():
    body = "h = Relu (x)  scores = MatMul (h, w)  boxes = MatMul (h, v)"
    outputs = "float[N, 30, 7] scores, float[N, 30, 4] boxes"
    assert "detector" in refusal(body, "float[N, 30, 8] x", outputs, w=(8, 7), v=(8, 4))


def test_a_detector_by_what_chooses_its_boxes():
    body = (
        "h = Relu (x)  s = MatMul (h, w)  b = MatMul (h, v)  t = Transpose <perm = [0, 2, 1]> (s)"
        "  y = NonMaxSuppression (b, t)"
    )
    text = refusal(body, "float[N, 30, 8] x", "int64[M, 3] y", w=(8, 7), v=(8, 4))
    assert "NonMaxSuppression" in text
    assert "a detector" in text


def test_trees():
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "scores"], "forest", domain="ai.onnx.ml"
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    with pytest.raises(HeadError, match="TreeEnsembleClassifier 'forest': an ensemble of trees"):
        find_classifier(helper.make_model(graph, opset_imports=opsets))


def test_features_that_are_given_out_too_are_no_answer():
    body = (
        "c = Conv (x, u)  features = GlobalAveragePool (c)  f = Flatten (features)"
        "  y = MatMul (f, w)"
    )
    made = model(
        body,
        "float[N, 1, 6, 6] x",
        "float[N, 5] y, float[N, 4, 1, 1] features",
        u=(4, 1, 3, 3),
        w=(4, 5),
    )
    assert find_classifier(made).head.features == "f"


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("scale", ["y = Mul (p, factor)", "q = Squeeze (p)  y = Div (q, factor)"])
def test_sigmoids_that_are_scaled_are_no_probabilities(classes, scale):
    body = f"l = MatMul (x, w)  p = Sigmoid (l)  {scale}"
    built = model(body, w=(8, classes))
    built.graph.initializer.append(helper.make_tensor("factor", TensorProto.FLOAT, [], [100.0]))
    with pytest.raises(HeadError, match=r"sigmoids? scaled by .*: a regression"):
        find_classifier(built)
    # A factor of 1 scales nothing, and a scale before the sigmoid is a temperature.
    built.graph.initializer[-1].float_data[0] = 1
    assert find_classifier(built).reading.task in ("binary", "multilabel")
    assert find_classifier(model("l = MatMul (x, w)  t = Add (l, l)  y = Sigmoid (t)", w=(8, 1)))


CUTS = {
    "slices": "a = Slice (l, zero, three, axis)  b = Slice (l, three, five, axis)",
    "picked": "a = Gather <axis = 1> (l, first)  b = Gather <axis = 1> (l, last)",
    "split": "a, b = Split (l, sizes)",
}


@pytest.mark.parametrize("cut", CUTS)
def test_scores_that_are_cut_into_several_answers_are_several_classifiers(cut):
    body = CUTS[cut].replace("Split (", "Split <axis = 1> (")
    built = model(
        f"l = MatMul (x, w)  {body}  y = Softmax (a)  z = Softmax (b)",
        y="float[N, 3] y, float[N, 2] z",
        w=(8, 5),
    )
    for name, values in {
        "zero": [0],
        "three": [3],
        "five": [5],
        "first": [0, 1, 2],
        "last": [3, 4],
        "sizes": [3, 2],
    }.items():
        built.graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(values, np.int64), name)
        )
    for needs_head in (True, False):
        with pytest.raises(HeadError, match=r"cut into several answers, 'y', 'z'.*--output-name"):
            find_classifier(built, needs_head=needs_head)
    for output, count, linear in (("y", 3, "a"), ("z", 2, "b")):
        found = find_classifier(built, Wanted(output=output))
        assert found.head is not None
        assert (found.scores.num_classes, found.head.linear) == (count, linear)


@pytest.mark.parametrize(
    ("classes", "bend", "task"),
    [(5, "Sigmoid", "multilabel"), (1, "Sigmoid", "binary"), (5, "Softmax <axis = 1>", "single")],
)
def test_probabilities_at_positions_that_are_pooled_are_one_answer(classes, bend, task):
    built = model(
        f"l = Conv (x, w)  p = {bend} (l)  g = GlobalAveragePool (p)  y = Flatten (g)",
        "float[N, 8, 6, 7] x",
        f"float[N, {classes}] y",
        w=(classes, 8, 1, 1),
    )
    found = find_classifier(built)
    assert found.head is not None
    assert (found.head.num_features, found.head.logits) == (8, found.scores.shipped)
    assert found.scores.task == task
    rng = np.random.default_rng(0)
    built.graph.initializer[-1].CopyFrom(
        onnx.numpy_helper.from_array(rng.normal(size=(classes, 8, 1, 1)).astype(np.float32), "w")
    )
    judged = with_class_scores(built, found)
    x = rng.normal(size=(40, 8, 6, 7)).astype(np.float32)
    logits, y = ReferenceEvaluator(tap(judged, [found.scores.logits, "y"])).run(None, {"x": x})
    if task == "single":
        np.testing.assert_array_equal(logits.reshape(40, -1).argmax(axis=1), y.argmax(axis=1))
    else:
        np.testing.assert_array_equal(logits[:, -classes:] > 0, y > 0.5)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("embedding", "an embedding"),
        ("image_embeds", "an embedding"),
        ("SentenceEmbedding/features:0", "an embedding"),
        ("landmarks", "a regression"),
    ],
)
def test_what_an_output_is_called_tells_where_nothing_else_does(name, what):
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 4] x) => (float[N, 6] y) { h = Tanh (x)  y = MatMul (h, w) }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 6), np.float32), "w"))
    assert find_classifier(model).scores.num_classes == 6
    model.graph.output[0].name = model.graph.node[-1].output[0] = name
    with pytest.raises(HeadError, match=what):
        find_classifier(model)
    assert find_classifier(model, Wanted(task=Task.SINGLE)).scores.num_classes == 6
    # A softmax says more than a name.
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["z"], [name]))
    assert find_classifier(model).scores.task is Task.SINGLE
