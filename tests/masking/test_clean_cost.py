"""What other answers are expected to cost, against the truth that was drawn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.masking.clean_cost import MOST, CleanCost

RIGHT = 20000

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


def classes(
    rng: np.random.Generator, beta: float, count: int = RIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the softmax of beta times them."""
    logits = rng.normal(0, 2, (count, 4)).astype(np.float32)
    odds = np.exp(beta * logits.astype(float))
    odds /= odds.sum(axis=1, keepdims=True)
    return logits, (odds.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)


def several(
    rng: np.random.Generator, beta: float, count: int = RIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """The same of independent labels."""
    logits = rng.normal(0, 2, (count, 3)).astype(np.float32)
    return logits, (rng.random(logits.shape) < 1 / (1 + np.exp(-beta * logits))).astype(np.int64)


@pytest.mark.parametrize("draw", [classes, several])
@pytest.mark.parametrize("beta", [0.4, 1.0, 1.7])
def test_the_expected_cost_is_what_labels_show(draw: Draw, beta: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = draw(rng, beta)
    cost = CleanCost(logits, labels)
    other = logits + rng.normal(0, 1, logits.shape).astype(np.float32)
    weights = cost.weights(other)
    assert weights == pytest.approx([beta, 0], rel=0.05, abs=0.05)
    costs, lost = cost.of(other, weights), right(logits, labels) - right(other, labels)
    # Labels tell the same on so many samples, and scatter far more.
    assert costs.mean() == pytest.approx(lost.mean(), abs=4 * lost.std() / RIGHT**0.5)
    assert costs.std() < 0.7 * lost.std()


@pytest.mark.parametrize("draw", [classes, several])
def test_what_gates_know_better_is_no_loss(draw: Draw) -> None:
    """Labels are drawn by what either knows a part of: the source by itself would be too sure."""
    rng = np.random.default_rng(1)
    truth, labels = draw(rng, 1.0)
    noise = [rng.normal(0, 1, truth.shape).astype(np.float32) for _ in range(2)]
    logits, other = truth + noise[0], truth + 1.2 * noise[1]
    cost = CleanCost(logits, labels)
    weights = cost.weights(other)
    lost = right(logits, labels) - right(other, labels)
    doubt = lost.std() / RIGHT**0.5
    assert cost.of(other, weights).mean() == pytest.approx(lost.mean(), abs=4 * doubt)
    alone = cost.weights(logits).sum()
    assert cost.of(other, np.array([alone, 0])).mean() > lost.mean() + 15 * doubt


@settings(max_examples=30, deadline=None)
@given(st.floats(-4, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_the_weights_are_the_likeliest(octaves: float, seed: int, independent: bool) -> None:
    """Of logits of any scale, by the likelihood of their neighbours."""
    rng = np.random.default_rng(seed)
    logits, labels = (several if independent else classes)(rng, 1.0, 300)
    scale = 2**octaves
    pair = [scale * logits, scale * (logits + rng.normal(0, 1, logits.shape))]
    found = CleanCost(pair[0], labels).weights(pair[1])
    assert (found >= 0).all() and (found <= MOST).all()

    def mixed(weights: np.ndarray) -> float:
        return likelihood(weights[0] * pair[0] + weights[1] * pair[1], labels)

    at = mixed(found)
    for turn in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        step = 0.02 / scale * np.array([np.cos(turn), np.sin(turn)])
        assert mixed(np.clip(found + step, 0, MOST)) <= at + 1e-6 * abs(at)


def right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 1:
        return (logits.argmax(axis=1) == labels) * 1.0
    return ((logits > 0) == labels).all(axis=1) * 1.0


def likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the logarithm of the probability of all labels."""
    if labels.ndim == 2:
        return float(-np.logaddexp(0, np.where(labels, -logits, logits)).sum())
    own = logits[np.arange(len(labels)), labels]
    return float((own - np.logaddexp.reduce(logits, axis=1)).sum())


@given(st.integers(0, 2**32 - 1))
def test_the_source_itself_costs_nothing_and_no_other_answer_gains_by_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (30, 4)).astype(np.float32)
    cost = CleanCost(logits, rng.integers(0, 4, 30))
    assert (cost.of(logits * 2, cost.weights(logits * 2)) == 0).all()
    weights = np.array([rng.uniform(0, 2), 0])
    assert (cost.of(rng.normal(0, 3, (30, 4)).astype(np.float32), weights) >= 0).all()


def test_what_is_no_number_is_no_answer() -> None:
    logits = np.array([[3, 0], [0, 3], [np.inf, 0], [-np.inf, 0]], np.float32)
    cost = CleanCost(logits, np.array([0, 1, 0, 1]))
    weights = cost.weights(logits)
    assert (cost.of(logits, weights) == 0).all()
    none = np.full_like(logits, np.nan)
    lost = cost.of(none, cost.weights(none))
    assert (lost > 0.9).all() and (lost <= 1).all()


def test_against_its_own_answers_every_other_one_is_lost() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 4)).astype(np.float32)
    other = rng.normal(0, 3, (200, 4)).astype(np.float32)
    cost = CleanCost(logits, logits.argmax(axis=1))
    found = cost.of(other, cost.weights(other))
    differ = logits.argmax(axis=1) != other.argmax(axis=1)
    assert found.sum() == pytest.approx(differ.sum(), rel=0.02)
