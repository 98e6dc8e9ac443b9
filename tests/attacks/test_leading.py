"""Whose gradients lead: those of the layer that a model's answers are bent from, or its own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import Target
from cloakify.attacks.leading import layer_answers, leaders, led_by_layer
from tests.support.classifiers import linear_classifier, target_of

WEIGHT = np.random.default_rng(5).standard_normal((6, 4)).astype(np.float32)


def bent() -> Target:
    """Answers sin(3p) of p = softmax(x·w): most where p is π/6, and less beyond."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 6] x) => (float[N, 4] z)
        { s = MatMul (x, w)  p = Softmax (s)  t = Add (p, p)  u = Add (t, p)  z = Sin (u) }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    return target_of(model, needs_head=False)


BENT = bent()
PLAIN = target_of(linear_classifier(WEIGHT, np.zeros(4, np.float32)))


def scores(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) @ WEIGHT


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6)).astype(np.float32), rng.integers(0, 4, count)


@given(seed=st.integers(0, 1000), count=st.integers(1, 40))
def test_the_layer_leads_where_it_answers_as_the_label(seed: int, count: int) -> None:
    x, y = drawn(seed, count)
    alike = scores(x).argmax(axis=1) == y
    np.testing.assert_array_equal(layer_answers(BENT, x, y), alike)
    led = {leader is BENT: rows for leader, rows in leaders(BENT, x, y)}
    wanted = {own: np.flatnonzero(alike != own) for own in (False, True)}
    assert {own: rows.tolist() for own, rows in led.items()} == {
        own: rows.tolist() for own, rows in wanted.items() if len(rows)
    }


@given(seed=st.integers(0, 1000))
def test_its_gradients_are_those_of_its_scores(seed: int) -> None:
    """Of the cross-entropy of s, by hand: (softmax(s) − onehot(y)) wᵀ."""
    x, y = drawn(seed, 5)
    led = led_by_layer(BENT)
    assert led is not None
    powers = np.exp(scores(x) - scores(x).max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    expected = (probabilities - np.eye(4)[y]) @ WEIGHT.T
    np.testing.assert_allclose(led.evaluate(x, y).gradient, expected, atol=1e-5)
    # It answers as the model does.
    np.testing.assert_allclose(led.logits(x), np.sin(3 * probabilities), atol=1e-5)


@pytest.mark.parametrize("count", [0, 7])
def test_where_nothing_is_bent_a_model_leads_itself(count: int) -> None:
    x, y = drawn(0, count)
    assert led_by_layer(PLAIN) is None
    ((leader, rows),) = leaders(PLAIN, x, y)
    assert leader is PLAIN
    assert rows.tolist() == list(range(count))


def test_without_samples_a_model_leads_itself() -> None:
    x, y = drawn(0, 0)
    ((leader, rows),) = leaders(BENT, x, y)
    assert leader is BENT and not len(rows)
