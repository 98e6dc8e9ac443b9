"""Adam against torch's, and what parameters stand for."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.masking.optimiser import Adam, cosine, gates_of, neutral


def test_neutral_parameters_are_gates_of_one() -> None:
    assert gates_of(neutral(3, "positive"), "positive").tolist() == [1, 1, 1]
    assert gates_of(neutral(3, "binary"), "binary").tolist() == [1, 1, 1]


def test_positive_gates_stay_positive() -> None:
    adam = Adam.at(neutral(2, "positive"))
    for _ in range(200):
        adam = adam.step(np.array([1e3, -1e3]), 0.1, "positive")
    gates = gates_of(adam.theta, "positive")
    assert 0 < gates[0] < 1 < gates[1]


def test_binary_gates_switch_off_and_on_again() -> None:
    adam = Adam.at(neutral(1, "binary"))
    for _ in range(20):
        adam = adam.step(np.array([1.0]), 0.1, "binary")
    assert gates_of(adam.theta, "binary").tolist() == [0]
    assert adam.theta.min() >= 0
    for _ in range(40):
        adam = adam.step(np.array([-1.0]), 0.1, "binary")
    assert gates_of(adam.theta, "binary").tolist() == [1]


def test_steps_equal_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    adam = Adam.at(np.zeros(5))
    theta = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    other = torch.optim.Adam([theta], lr=0.02)
    for _ in range(10):
        gradient = rng.standard_normal(5)
        # Torch is given ∂/∂θ of a gate that is exp θ.
        theta.grad = torch.tensor(gradient) * theta.detach().exp()
        other.step()
        adam = adam.step(gradient, 0.02, "positive")
    np.testing.assert_allclose(adam.theta, theta.detach(), rtol=1e-9)


def test_cosine_falls_from_one_to_zero() -> None:
    values = [cosine(step, 10) for step in range(11)]
    assert values[0] == 1 and values[5] == pytest.approx(0.5) and values[10] == pytest.approx(0)
    assert values == sorted(values, reverse=True)
