"""The accuracy budget is kept, whatever was tried."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import GateError
from cloakify.masking.gate_choice import choose_gates
from cloakify.masking.optimiser import Parameters
from cloakify.masking.tuning_state import Checkpoint, GateMetrics

COUNT = 100
POSITIVE, BINARY = (Parameters(kind, np.zeros(2)) for kind in ("positive", "binary"))


def metrics(clean: float, robust: int, doubt: float = 0) -> GateMetrics:
    """Of a hundred samples, of which the source knows ninety."""
    return GateMetrics(COUNT, COUNT, round(clean), robust, robust, 90 - clean, doubt)


def checkpoint(step: int, clean: float, robust: int, theta: float = 0.0) -> Checkpoint:
    return Checkpoint(step, np.full((1, 2), theta), metrics(clean, robust))


def priced(cost: float, gain: int, place: int = 0) -> Callable[[np.ndarray], GateMetrics]:
    """Return what tries gates that cost and gain so much at full strength."""

    def evaluate(theta: np.ndarray) -> GateMetrics:
        strength = theta[0, place]
        return metrics(90 - cost * strength, round(50 + gain * strength))

    return evaluate


def no_price(theta: np.ndarray) -> float:
    raise AssertionError("nothing needs to be drawn back")


def no_evaluation(theta: np.ndarray) -> GateMetrics:
    raise AssertionError("nothing needs to be tried again")


def test_the_firmest_within_the_budget() -> None:
    points = [checkpoint(0, 90, 50), checkpoint(1, 89, 60, 0.1), checkpoint(2, 89, 65, 0.2)]
    # Binary gates have no strength but their own; of others any may cost too much but this one.
    choice = choose_gates(points, BINARY, 0.01, no_evaluation, no_price)
    assert (choice.step, choice.strength) == (2, 1.0)

    def drop(theta: np.ndarray) -> float:
        return 0.01 if theta.max() < 0.2 + 1e-9 else 1.0

    choice = choose_gates(points, POSITIVE, 0.01, lambda theta: metrics(89, 0), drop)
    assert (choice.step, choice.strength) == (2, 1.0)
    np.testing.assert_allclose(choice.gates, np.exp(0.2))


def test_gates_that_cost_less_than_is_allowed_are_taken_further() -> None:
    points = [checkpoint(0, 90, 50), checkpoint(1, 86, 60, 1.0)]
    evaluate = priced(4.5, 10)
    choice = choose_gates(points, POSITIVE, 0.05, evaluate, lambda theta: evaluate(theta).drop)
    assert choice.strength == 1.1 and choice.metrics.drop <= 0.05
    # Not without end, and not where it is of no use.
    choice = choose_gates(points, POSITIVE, 0.5, evaluate, lambda theta: evaluate(theta).drop)
    assert choice.strength == 1.15
    choice = choose_gates(points, POSITIVE, 0.5, lambda theta: metrics(86, 60), lambda theta: 0.0)
    assert choice.strength == 1


def test_gates_that_cost_too_much_are_drawn_back() -> None:
    points = [checkpoint(0, 90, 50), checkpoint(1, 80, 70, 1.0)]
    evaluate = priced(10, 20)
    choice = choose_gates(points, POSITIVE, 0.05, evaluate, lambda theta: evaluate(theta).drop)
    assert choice.strength == 0.5
    np.testing.assert_allclose(choice.gates, np.exp(0.5))
    assert choice.metrics.robust == 60 and choice.metrics.drop == pytest.approx(0.05)


@given(st.integers(0, 60), st.integers(0, 30))
def test_the_strongest_of_the_strengths_within_the_budget_is_tried_and_no_other(
    cost: int, budget: int
) -> None:
    """Against twentieths up to 1.15, one by one."""
    points = [checkpoint(0, 90, 50), Checkpoint(1, np.ones((1, 2)), metrics(90 - cost, 70))]
    tried = []

    def evaluate(theta: np.ndarray) -> GateMetrics:
        tried.append(round(float(theta[0, 0]) * 20))
        return metrics(90 - cost * theta[0, 0], round(50 + 20 * theta[0, 0]))

    within = [number for number in range(1, 24) if number * cost <= 20 * budget]
    best = max(within, default=0)
    given_so = (points, POSITIVE, budget / 100, evaluate, lambda theta: cost * theta[0, 0] / 100)
    if best:
        assert round(choose_gates(*given_so).strength * 20) == best
    else:
        with pytest.raises(GateError):
            choose_gates(*given_so)
    # At full strength it is known how they fare, and of gates of 1 as well.
    assert tried == [best] * (best not in (0, 20))


def test_shifts_are_drawn_back_in_proportion() -> None:
    points = [checkpoint(0, 90, 50), checkpoint(1, 80, 70, 1.0)]
    parameters = Parameters("positive", np.array([0.0, 3.0]))
    evaluate = priced(10, 20, place=1)
    choice = choose_gates(points, parameters, 0.05, evaluate, lambda theta: evaluate(theta).drop)
    assert choice.strength == 0.5
    np.testing.assert_allclose(choice.gates, [np.exp(0.5), 1.5])


def test_the_last_is_taken_unless_it_is_surely_worse() -> None:
    """Of equals the noise of a hundred samples is five: a standard error."""
    points = [checkpoint(0, 90, 10), checkpoint(1, 90, 50, 0.1), checkpoint(2, 90, 46, 0.2)]
    assert choose_gates(points, BINARY, 0.01, no_evaluation, no_price).step == 2
    points[2] = checkpoint(2, 90, 44, 0.2)
    assert choose_gates(points, BINARY, 0.01, no_evaluation, no_price).step == 1
    # What is no firmer than the source is none, however near.
    points[1:] = [checkpoint(1, 90, 11, 0.1), checkpoint(2, 90, 10, 0.2)]
    assert choose_gates(points, BINARY, 0.01, no_evaluation, no_price).step == 1


def test_a_loss_that_may_be_larger_elsewhere_is_kept_off() -> None:
    """Of two gates that are expected to lose one answer each, one is far less sure of it."""
    points = [checkpoint(0, 90, 50), checkpoint(1, 89, 60, 0.1)]
    points.append(Checkpoint(2, np.full((1, 2), 0.2), metrics(89, 70, doubt=3)))
    assert choose_gates(points, BINARY, 0.03, no_evaluation, no_price).step == 1
    assert choose_gates(points, BINARY, 0.04, no_evaluation, no_price).step == 2


def test_gates_of_all_samples_are_taken_and_those_of_folds_tell_of_them() -> None:
    theta = np.array([[0.2, 4.0], [0.5, 6.0], [-0.1, 2.0]])
    points = [checkpoint(0, 90, 50), Checkpoint(1, theta, metrics(80, 70))]
    parameters = Parameters("positive", np.array([0.0, 3.0]))

    def evaluate(drawn_back: np.ndarray) -> GateMetrics:
        # All alike.
        strength = drawn_back[0, 1] / 4
        np.testing.assert_allclose(drawn_back, strength * theta)
        return metrics(90 - 10 * strength, round(50 + 20 * strength))

    choice = choose_gates(points, parameters, 0.05, evaluate, lambda theta: evaluate(theta).drop)
    np.testing.assert_allclose(choice.gates, [np.exp(0.1), 6.0])
    np.testing.assert_allclose(choice.theta, [0.1, 2.0])


@given(
    st.lists(st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.01, 0.05]),
    st.sampled_from([POSITIVE, BINARY]),
)
def test_the_budget_is_kept(points: list[tuple[int, int]], budget: float, kind: Parameters) -> None:
    tried = [checkpoint(0, 90, 40)]
    tried += [checkpoint(step, *point) for step, point in enumerate(points, 1)]
    try:
        choice = choose_gates(
            tried,
            kind,
            budget,
            lambda theta: metrics(70, 60),
            lambda theta: metrics(70, 60).drop,
        )
    except GateError as error:
        assert "no file was written" in str(error)
        assert not any(c >= 90 - 100 * budget and r > 40 for c, r in points)
    else:
        assert choice.metrics.clean >= 90 - 100 * budget - 1e-6
        assert choice.metrics.robust > 40


def test_nothing_better_is_an_error() -> None:
    with pytest.raises(GateError, match=r"within 1\.0 % of clean accuracy"):
        choose_gates(
            [checkpoint(0, 90, 50), checkpoint(1, 90, 50)], BINARY, 0.01, no_evaluation, no_price
        )
