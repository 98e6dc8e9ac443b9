"""What other answers are expected to cost, against the truth that was drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.masking.clean_cost import LEAST, MOST, CleanCost

RIGHT = 20000


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
def test_the_expected_cost_is_what_labels_show(draw: object, beta: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = draw(rng, beta)  # type: ignore[operator]
    cost = CleanCost(logits, labels)
    assert cost.inverse_temperature == pytest.approx(beta, rel=0.05)
    other = logits + rng.normal(0, 1, logits.shape).astype(np.float32)
    costs = cost.of(other)
    if labels.ndim == 1:
        lost = (logits.argmax(axis=1) == labels) * 1.0 - (other.argmax(axis=1) == labels)
    else:
        lost = (((z > 0) == labels).all(axis=1) * 1.0 for z in (logits, other))
        lost = next(lost) - next(lost)
    # Labels tell the same on so many samples, and scatter far more.
    assert costs.mean() == pytest.approx(lost.mean(), abs=4 * lost.std() / RIGHT**0.5)
    assert costs.std() < 0.7 * lost.std()


@settings(max_examples=30)
@given(st.floats(-8, 8), st.integers(0, 2**32 - 1), st.booleans())
def test_logits_of_another_scale_have_another_temperature(
    octaves: float, seed: int, independent: bool
) -> None:
    """So that the product is the same, from a sixteenth to sixteen."""
    logits, labels = (several if independent else classes)(np.random.default_rng(seed), 1.0, 300)
    alone = CleanCost(logits, labels).inverse_temperature
    scale = np.float32(2**octaves)
    found = CleanCost(scale * logits, labels).inverse_temperature
    assert found == pytest.approx(np.clip(alone / scale, 1 / 16, 16), rel=1e-3)
    # It is the likeliest, but for the ends.
    if 0.99 * found > 1 / 16 and 1.01 * found < 16:
        below, there, above = (
            likelihood(part * found * scale * logits.astype(float), labels)
            for part in (0.99, 1, 1.01)
        )
        assert there >= max(below, above)


def likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the logarithm of the probability of all labels."""
    if labels.ndim == 2:
        return float(-np.logaddexp(0, np.where(labels, -logits, logits)).sum())
    own = logits[np.arange(len(labels)), labels]
    return float((own - np.logaddexp.reduce(logits, axis=1)).sum())


@given(st.integers(0, 2**32 - 1))
def test_the_source_itself_costs_nothing_and_no_other_answer_gains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (30, 4)).astype(np.float32)
    cost = CleanCost(logits, rng.integers(0, 4, 30))
    assert (cost.of(logits * 2) == 0).all()
    assert (cost.of(rng.normal(0, 3, (30, 4)).astype(np.float32)) >= 0).all()
    assert LEAST <= cost.inverse_temperature <= MOST


def test_what_is_no_number_is_no_answer() -> None:
    logits = np.array([[3, 0], [0, 3], [np.inf, 0], [-np.inf, 0]], np.float32)
    cost = CleanCost(logits, np.array([0, 1, 0, 1]))
    assert (cost.of(logits) == 0).all()
    lost = cost.of(np.full_like(logits, np.nan))
    assert (lost > 0.9).all() and (lost <= 1).all()


def test_against_its_own_answers_every_other_one_is_lost() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 4)).astype(np.float32)
    other = rng.normal(0, 3, (200, 4)).astype(np.float32)
    found = CleanCost(logits, logits.argmax(axis=1)).of(other)
    differ = logits.argmax(axis=1) != other.argmax(axis=1)
    assert found.sum() == pytest.approx(differ.sum(), rel=0.02)
