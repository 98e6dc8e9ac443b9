"""What the parameters of gates stand for, and how they move."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.masking.optimiser import Kind, Parameters, cosine
from cloakify.numeric.adam import Adam


def gates(count: int, kind: Kind) -> Parameters:
    return Parameters(kind, np.zeros(count))


@pytest.mark.parametrize("kind", ["positive", "binary"])
def test_neutral_parameters_are_gates_of_one_and_shifts_of_zero(kind: Kind) -> None:
    parameters = Parameters(kind, np.array([0.0, 2.5, 0.0]))
    assert parameters.values(parameters.neutral).tolist() == [1, 0, 1]


def test_positive_gates_stay_positive() -> None:
    parameters = gates(2, "positive")
    adam = Adam.at(parameters.neutral)
    for _ in range(200):
        adam = parameters.stepped(adam, np.array([1e3, -1e3]), 0.1)
    found = parameters.values(adam.theta)
    assert 0 < found[0] < 1 < found[1]


def test_binary_gates_switch_off_and_on_again() -> None:
    parameters = Parameters("binary", np.array([0.0, 3.0]))
    adam = Adam.at(parameters.neutral)
    for _ in range(20):
        adam = parameters.stepped(adam, np.array([1.0, 1.0]), 0.1)
    gate, shift = parameters.values(adam.theta)
    assert gate == 0 and adam.theta[0] >= 0
    # Nothing holds a shift to what a gate's parameters are held to.
    assert shift == pytest.approx(3 * -0.1 * 20, rel=0.01)
    for _ in range(40):
        adam = parameters.stepped(adam, np.array([-1.0, 0.0]), 0.1)
    assert parameters.values(adam.theta)[0] == 1


@pytest.mark.parametrize("kind", ["positive", "binary"])
def test_the_slope_is_that_of_the_values(kind: Kind) -> None:
    """∂loss/∂θ by central differences of a loss of the values."""
    parameters = Parameters(kind, np.array([0.0, 0.0, 2.5, 0.1]))
    theta, slopes = np.array([0.7, -0.3, 0.4, -2.0]), np.array([2.0, -1.0, 3.0, 0.5])
    adam = parameters.stepped(Adam.at(theta), slopes, 0.1)
    step = 1e-6

    def loss(place: int, by: float) -> float:
        moved = theta.copy()
        moved[place] += by
        return float(parameters.values(moved) @ slopes)

    exact = [(loss(k, step) - loss(k, -step)) / (2 * step) for k in range(4)]
    if kind == "binary":
        # Straight through: as if a gate were θ itself.
        exact[:2] = slopes[:2]
    # Adam's first mean is a tenth of the gradient.
    np.testing.assert_allclose(adam.mean, np.array(exact) / 10, rtol=1e-6)


# Two channels of three and two positions, and one of a layer without positions, gates and shifts.
CHANNELS = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5])
UNITS = np.repeat([0.0, 2.5], 6)
SHARING = Parameters("positive", UNITS, CHANNELS, own_rate=0.25)


def test_what_a_channel_shares_and_what_a_position_has_add_up() -> None:
    assert SHARING.values(SHARING.neutral).tolist() == [1] * 6 + [0] * 6
    theta = np.arange(18.0) / 10
    apart = [theta[k] + theta[12 + CHANNELS[k]] for k in range(12)]
    expected = [*np.exp(apart[:6]), *np.multiply(2.5, apart[6:])]
    np.testing.assert_allclose(SHARING.values(theta), expected)
    # Of several folds as of one.
    np.testing.assert_array_equal(SHARING.values(np.stack([theta, -theta]))[0], expected)


def test_the_slopes_of_shared_parts_are_those_of_the_values() -> None:
    """∂loss/∂θ by central differences of a loss of the values."""
    generator = np.random.default_rng(0)
    theta, slopes = generator.normal(size=18), generator.normal(size=12)
    adam = SHARING.stepped(Adam.at(theta), slopes, 0.1)
    sides = 1e-6 * np.eye(18)
    exact = (SHARING.values(theta + sides) - SHARING.values(theta - sides)) @ slopes / 2e-6
    np.testing.assert_allclose(adam.mean, exact / 10, rtol=1e-6, atol=1e-9)


def test_own_parts_move_slower_and_not_at_all_where_there_is_nobody_to_share_with() -> None:
    adam = SHARING.stepped(Adam.at(SHARING.neutral), np.ones(12), 0.1)
    # Adam's first step is as long as its rate.
    alone = np.isin(CHANNELS, [2, 5])
    np.testing.assert_allclose(adam.theta[:12], np.where(alone, 0, -0.025), atol=1e-7)
    np.testing.assert_allclose(adam.theta[12:], -0.1, rtol=1e-6)


def test_cosine_falls_from_one_to_zero() -> None:
    values = [cosine(step, 10) for step in range(11)]
    assert values[0] == 1 and values[5] == pytest.approx(0.5) and values[10] == pytest.approx(0)
    assert values == sorted(values, reverse=True)
