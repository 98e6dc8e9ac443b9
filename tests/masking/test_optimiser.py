"""What the parameters of gates stand for, and how they move."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.masking.optimiser import cosine, gates_of, neutral, stepped
from cloakify.numeric.adam import Adam


def test_neutral_parameters_are_gates_of_one() -> None:
    assert gates_of(neutral(3, "positive"), "positive").tolist() == [1, 1, 1]
    assert gates_of(neutral(3, "binary"), "binary").tolist() == [1, 1, 1]


def test_positive_gates_stay_positive() -> None:
    adam = Adam.at(neutral(2, "positive"))
    for _ in range(200):
        adam = stepped(adam, np.array([1e3, -1e3]), 0.1, "positive")
    gates = gates_of(adam.theta, "positive")
    assert 0 < gates[0] < 1 < gates[1]


def test_binary_gates_switch_off_and_on_again() -> None:
    adam = Adam.at(neutral(1, "binary"))
    for _ in range(20):
        adam = stepped(adam, np.array([1.0]), 0.1, "binary")
    assert gates_of(adam.theta, "binary").tolist() == [0]
    assert adam.theta.min() >= 0
    for _ in range(40):
        adam = stepped(adam, np.array([-1.0]), 0.1, "binary")
    assert gates_of(adam.theta, "binary").tolist() == [1]


def test_a_positive_gate_is_moved_by_its_own_slope() -> None:
    adam = Adam.at(np.log([0.25, 4.0]))
    gradient = np.array([2.0, -1.0])
    moved = stepped(adam, gradient, 0.1, "positive")
    # ∂loss/∂θ = ∂loss/∂gate · gate, for gates of exp θ.
    by_hand = adam.step(gradient * [0.25, 4.0], 0.1)
    np.testing.assert_allclose(moved.theta, by_hand.theta, rtol=1e-12)
    np.testing.assert_allclose(moved.mean, by_hand.mean, rtol=1e-12)


def test_cosine_falls_from_one_to_zero() -> None:
    values = [cosine(step, 10) for step in range(11)]
    assert values[0] == 1 and values[5] == pytest.approx(0.5) and values[10] == pytest.approx(0)
    assert values == sorted(values, reverse=True)
