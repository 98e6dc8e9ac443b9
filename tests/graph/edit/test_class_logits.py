"""Working copies of models with one logit have two, whatever form exporters give the one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from cloakify.errors import UsageError
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.runtime import resolve_device
from cloakify.runtime.session import Session
from tests.support.one_logit import ENDINGS, FEATURES, OneLogit

X = np.random.default_rng(3).random((50, FEATURES), np.float32)


def logits_of(model: ModelProto, wanted: Wanted | None = None) -> np.ndarray:
    found = find_classifier(model, wanted or Wanted())
    assert (found.scores.task, found.scores.num_classes) == (Task.BINARY, 2)
    edited = with_class_scores(model, found)
    edited.graph.output.append(onnx.ValueInfoProto(name=found.scores.logits))
    session = Session(edited, resolve_device("cpu"))
    return session.run({"x": X}, [found.scores.logits])[found.scores.logits]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_two_are_zero_and_the_one(ending: str) -> None:
    network = OneLogit()
    logits = logits_of(network.model(ending))
    assert logits.shape == (len(X), 2)
    assert not logits[:, 0].any()
    np.testing.assert_allclose(logits[:, 1], network.logit(X), atol=1e-4)


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.8])
def test_the_threshold_is_the_models_or_the_users(threshold: float) -> None:
    network = OneLogit()
    probability = 1 / (1 + np.exp(-network.logit(X)))
    own = logits_of(network.model("answer", threshold))
    np.testing.assert_array_equal(own.argmax(axis=1), probability > threshold)
    given = logits_of(network.model("sigmoid"), Wanted(threshold=threshold))
    np.testing.assert_array_equal(given.argmax(axis=1), probability > threshold)


@pytest.mark.parametrize(
    ("nodes", "rising"),
    [
        ("p = Sigmoid (z)  y = Less (p, half)", False),
        ("p = Sigmoid (z)  y = Less (half, p)", True),
        ("p = Sigmoid (z)  g = LessOrEqual (p, half)  y = Not (g)", True),
        ("p = Sigmoid (z)  g = Greater (p, half)  n = Not (g)  y = Cast <to = 9> (n)", False),
        ("y = Greater (zero, z)", False),
    ],
)
def test_class_1_may_lie_below(monkeypatch: pytest.MonkeyPatch, nodes: str, rising: bool) -> None:
    network = OneLogit()
    monkeypatch.setitem(ENDINGS, "tried", ("bool[N, 1] y", nodes))
    model = network.model("tried")
    answers = Session(model, resolve_device("cpu")).run({"x": X}, ["y"])["y"][:, 0]
    logits = logits_of(model)
    np.testing.assert_array_equal(logits.argmax(axis=1), answers)
    np.testing.assert_allclose(logits[:, 1], (1 if rising else -1) * network.logit(X), atol=1e-4)


@pytest.mark.parametrize(
    ("order", "rising"), [("q, p", True), ("p, q", False)], ids=["rising", "falling"]
)
def test_probabilities_side_by_side(
    monkeypatch: pytest.MonkeyPatch, order: str, rising: bool
) -> None:
    nodes = f"p = Sigmoid (z)  q = Sub (unit, p)  y = Concat <axis = 1> ({order})"
    monkeypatch.setitem(ENDINGS, "tried", ("float[N, 2] y", nodes))
    logits = logits_of(OneLogit().model("tried"))
    np.testing.assert_array_equal(logits.argmax(axis=1), (OneLogit().logit(X) > 0) == rising)


def test_a_model_with_two_logits_is_left_alone() -> None:
    model = OneLogit().twin()
    assert with_class_scores(model, find_classifier(model)) is model
    with pytest.raises(UsageError, match="--threshold is for a single logit"):
        find_classifier(model, Wanted(threshold=0.3))
    with pytest.raises(UsageError, match="--task binary: 'z' has 2 logits"):
        find_classifier(model, Wanted(task=Task.BINARY))


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE])
def test_other_number_types(kind: int) -> None:
    network = OneLogit()
    model = network.model("sigmoid")
    graph = model.graph
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    graph.output[0].type.tensor_type.elem_type = kind
    graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["wide"], to=kind))
    graph.node[1].input[0] = "wide"
    np.testing.assert_allclose(logits_of(model)[:, 1], network.logit(X), atol=0.05)


@pytest.mark.parametrize(
    "nodes",
    [
        "p = Sigmoid (z)  y = Sub (unit, p)",
        "n = Neg (z)  y = Sigmoid (n)",
        "e = Exp (z)  s = Add (e, unit)  y = Reciprocal (s)",
        "p = Sigmoid (z)  q = Sub (unit, p)  y = Squeeze (q, one)",
    ],
)
def test_what_comes_out_is_the_probability_of_class_1(
    monkeypatch: pytest.MonkeyPatch, nodes: str
) -> None:
    network = OneLogit()
    form = "float[N] y" if "Squeeze" in nodes else "float[N, 1] y"
    monkeypatch.setitem(ENDINGS, "tried", (form, nodes))
    model = network.model("tried")
    told = Session(model, resolve_device("cpu")).run({"x": X})["y"].reshape(-1)
    assert 0 < (told > 0.5).mean() < 1
    np.testing.assert_array_equal(logits_of(model).argmax(axis=1), told > 0.5)


def test_where_both_probabilities_come_out_class_1_is_that_of_the_sigmoid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = OneLogit()
    outputs = "float[N, 1] y, float[N, 1] q"
    monkeypatch.setitem(ENDINGS, "tried", (outputs, "y = Sigmoid (z)  q = Sub (unit, y)"))
    logits = logits_of(network.model("tried"))
    np.testing.assert_array_equal(logits.argmax(axis=1), network.logit(X) > 0)
