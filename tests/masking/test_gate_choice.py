"""The accuracy budget is kept, whatever was tried."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import GateError
from cloakify.masking.gate_choice import choose_gates
from cloakify.masking.optimiser import Parameters
from cloakify.masking.tuning import Checkpoint, GateMetrics

COUNT = 100
POSITIVE, BINARY = (Parameters(kind, np.zeros(2)) for kind in ("positive", "binary"))


def checkpoint(step: int, clean: int, robust: int, theta: float = 0.0) -> Checkpoint:
    return Checkpoint(step, np.full(2, theta), GateMetrics(COUNT, COUNT, clean, robust, robust, 0))


def no_evaluation(gates: np.ndarray) -> GateMetrics:
    raise AssertionError("nothing needs to be tried again")


def test_the_firmest_within_the_budget() -> None:
    points = [checkpoint(0, 90, 50), checkpoint(1, 89, 60, 0.1), checkpoint(2, 89, 65, 0.2)]
    choice = choose_gates(points, POSITIVE, 0.01, no_evaluation)
    assert (choice.step, choice.strength) == (2, 1.0)
    np.testing.assert_allclose(choice.gates, np.exp(0.2))


def test_gates_that_cost_too_much_are_drawn_back() -> None:
    points = [checkpoint(0, 90, 50), checkpoint(1, 80, 70, 1.0)]

    def evaluate(gates: np.ndarray) -> GateMetrics:
        strength = float(np.log(gates[0]))
        return GateMetrics(COUNT, COUNT, round(90 - 10 * strength), round(50 + 20 * strength), 0, 0)

    choice = choose_gates(points, POSITIVE, 0.05, evaluate)
    assert choice.strength == 0.5
    np.testing.assert_allclose(choice.gates, np.exp(0.5))
    assert choice.metrics == GateMetrics(COUNT, COUNT, 85, 60, 0, 0)


def test_shifts_are_drawn_back_in_proportion() -> None:
    points = [checkpoint(0, 90, 50), checkpoint(1, 80, 70, 1.0)]
    parameters = Parameters("positive", np.array([0.0, 3.0]))

    def evaluate(gates: np.ndarray) -> GateMetrics:
        strength = float(gates[1] / 3)
        return GateMetrics(COUNT, COUNT, round(90 - 10 * strength), round(50 + 20 * strength), 0, 0)

    choice = choose_gates(points, parameters, 0.05, evaluate)
    assert choice.strength == 0.5
    np.testing.assert_allclose(choice.gates, [np.exp(0.5), 1.5])


def test_a_loss_that_may_be_larger_elsewhere_is_kept_off() -> None:
    """Of two gates that lose one answer each, one has changed nine: that may be five next time."""
    points = [checkpoint(0, 90, 50), checkpoint(1, 89, 60, 0.1)]
    bold = GateMetrics(COUNT, COUNT, 89, 70, 70, 9)
    points.append(Checkpoint(2, np.full(2, 0.2), bold))
    assert choose_gates(points, BINARY, 0.03, no_evaluation).step == 1
    assert choose_gates(points, BINARY, 0.04, no_evaluation).step == 2


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
            lambda gates: GateMetrics(COUNT, COUNT, 70, 60, 60, 25),
        )
    except GateError as error:
        assert "no file was written" in str(error)
        assert not any(c >= 90 - 100 * budget and r > 40 for c, r in points)
    else:
        assert choice.metrics.clean >= 90 - 100 * budget - 1e-6
        assert choice.metrics.robust > 40


def test_nothing_better_is_an_error() -> None:
    with pytest.raises(GateError, match=r"within 1\.0% of clean accuracy"):
        choose_gates([checkpoint(0, 90, 50), checkpoint(1, 90, 50)], BINARY, 0.01, no_evaluation)
