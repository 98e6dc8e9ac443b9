"""Support vectors written out: against ONNX Runtime's operator and libsvm's formulas."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise
from tests.support.support_vectors import DIMENSIONS, Machine

X = np.random.default_rng(3).normal(size=(30, DIMENSIONS)).astype(np.float32)
KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]


def scores(machine: Machine) -> tuple[np.ndarray, np.ndarray]:
    """Return the operator's numbers, and those of what is written out."""
    model = machine.model()
    _, expected = run_once(model, {"x": X})
    written = specialise(model, {"x": X.shape}, has_rule, ["scores"]).export()
    assert not {node.domain for node in written.graph.node} - {"", "ai.onnx"}
    (found,) = run_once(written, {"x": X})
    return expected, found


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_decisions_are_those_of_the_operator(kernel, classes):
    machine = Machine(classes, kernel, platt=False)
    expected, found = scores(machine)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    decisions = machine.decisions(X.astype(float))
    signed = np.concatenate([-decisions, decisions], axis=1) if classes == 2 else decisions
    np.testing.assert_allclose(found, signed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_two_classes_the_softmax_is_the_probabilities(kernel):
    expected, found = scores(Machine(2, kernel, platt=True))
    powers = np.exp(found - found.max(axis=1, keepdims=True))
    # The operator's iteration ends where probabilities change by less than 0.005 / 2.
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected, atol=0.005)


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_more_classes_scores_order_nearly_as_probabilities_do(kernel):
    machine = Machine(4, kernel, platt=True)
    expected, found = scores(machine)
    np.testing.assert_allclose(found, machine.log_scores(X.astype(float)), rtol=1e-3, atol=1e-4)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.85
