"""Support vectors as classifiers: what wins, where a mask goes, and which way attacks go."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks.target import Target
from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.graph.edit.mask import insert_mask, strip_mask
from cloakify.graph.model.support_vectors import read_support_vectors
from cloakify.masking.linear_head import read_head
from cloakify.runtime import Device
from tests.support.support_vectors import DIMENSIONS, Machine

X = np.random.default_rng(3).normal(size=(40, DIMENSIONS)).astype(np.float32)
KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]
MASK = np.array([1, 0, 1, 1], np.float32)


def target_of(machine: Machine) -> Target:
    model = machine.model()
    found = find_classifier(model, needs_head=False)
    judged = with_class_scores(model, found)
    return Target(judged, find_input(model), found.scores, Device("cpu"), threads=1)


def labels_of(model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["label"], {"x": x})[0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_two_classes_the_label_is_right_whichever_way_the_scores_come_out(kernel):
    machine = Machine(2, kernel, platt=False)
    target = target_of(machine)
    labels = labels_of(machine.model(), X)
    assert 0 < labels.mean() < 1
    np.testing.assert_array_equal(target.logits(X).argmax(axis=1), labels)
    assert target.correct(X, labels).all()
    assert not target.correct(X, 1 - labels).any()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("platt", [False, True])
def test_gradients_are_those_of_the_formulas(kernel, platt):
    """Of the cross-entropy of two classes, against central differences in double."""
    machine = Machine(2, kernel, platt=platt)
    y = np.arange(6) % 2

    def loss(x: np.ndarray) -> np.ndarray:
        decisions = machine.decisions(x)
        logits = np.concatenate([decisions, -decisions], axis=1)
        logits = machine.log_scores(x) if platt else logits
        largest = logits.max(axis=1)
        total = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        return total - logits[np.arange(len(y)), y]

    found = target_of(machine).evaluate(X[:6], y)
    np.testing.assert_allclose(found.loss, loss(X[:6].astype(float)), rtol=1e-3, atol=1e-4)
    slopes = np.empty((6, DIMENSIONS))
    for place in range(DIMENSIONS):
        step = np.eye(DIMENSIONS)[place] * 1e-5
        slopes[:, place] = (loss(X[:6] + step) - loss(X[:6] - step)) / 2e-5
    np.testing.assert_allclose(found.gradient, slopes, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("classes", "platt"), [(2, False), (2, True), (4, True)])
def test_a_linear_kernel_is_masked_before_it(classes, platt):
    machine = Machine(classes, "LINEAR", platt=platt)
    model = machine.model()
    search = find_classifier(model)
    head = search.head
    assert head is not None
    assert (head.features, head.num_features, head.num_classes) == ("f", DIMENSIONS, classes)
    hardened = insert_mask(model, head, MASK, {"mask.sha256": "…"})
    np.testing.assert_array_equal(labels_of(hardened, X), labels_of(model, X * MASK))
    assert strip_mask(hardened).SerializeToString() == model.SerializeToString()
    linear = read_head(model, head, X.ndim).of_classes(search.scores)
    scores = np.zeros((len(X), classes))
    odds = machine.decisions(X.astype(float))
    odds = -(machine.a * odds + machine.b) if platt else odds
    for place, (first, second) in enumerate(machine.pairs):
        scores[:, first] += odds[:, place]
        scores[:, second] -= odds[:, place]
    np.testing.assert_allclose(linear.logits(X), scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS[1:])
def test_other_kernels_are_told_by_name(kernel):
    with pytest.raises(HeadError, match=f"support vectors with the kernel {kernel}, without"):
        find_classifier(Machine(3, kernel, platt=True).model())


NUMBERS = {
    "rho": lambda machine: machine.rho,
    "prob_a": lambda machine: machine.a,
    "prob_b": lambda machine: machine.b,
    "coefficients": lambda machine: machine.duals.ravel(),
    "support_vectors": lambda machine: machine.vectors.ravel(),
    "vectors_per_class": lambda machine: machine.counts,
}


@given(
    st.sampled_from(list(NUMBERS)), st.integers(-3, 3), st.sampled_from([2, 3, 4]), st.booleans()
)
def test_what_is_a_head_can_be_read(name, change, classes, platt):
    """Whatever numbers are too many or too few: ONNX Runtime takes some such nodes."""
    machine = Machine(classes, "LINEAR", platt=platt)
    model = machine.model()
    node = model.graph.node[1]
    held = [entry for entry in node.attribute if entry.name != name]
    kept = [entry for entry in node.attribute if entry.name == name]
    numbers = list(NUMBERS[name](machine)) if kept else []
    numbers = numbers[: len(numbers) + change] if change <= 0 else numbers + [1] * change
    del node.attribute[:]
    node.attribute.extend(held)
    if numbers:
        node.attribute.append(onnx.helper.make_attribute(name, numbers))
    try:
        search = find_classifier(model)
    except HeadError as error:
        assert "support vectors whose numbers do not fit" in str(error)
        assert read_support_vectors(node) is None
        return
    assert search.head is not None
    assert read_support_vectors(node) is not None
    assert read_head(model, search.head, X.ndim).weight.shape == (search.head.num_features, classes)
