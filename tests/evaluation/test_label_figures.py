"""Figures of independent labels: by definition, against scikit-learn, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import DataError
from cloakify.evaluation.label_figures import average_precision, label_figures


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_average_precision_by_its_definition(seed: int, n: int) -> None:
    """Precision at each positive's rank, where equal scores share the last of their ranks."""
    rng = np.random.default_rng(seed)
    scores, y = rng.integers(0, 4, n).astype(np.float32), rng.integers(0, 2, n)
    times = rng.integers(0, 3, n)
    copies, held = np.repeat(scores, times), np.repeat(y, times)
    found = average_precision(scores, y, times[None].astype(np.float64))
    if not held.any():
        assert np.isnan(found[0])
        return
    expected = [held[copies >= score].mean() for score in copies[held == 1]]
    assert found[0] == pytest.approx(np.mean(expected))


def test_scikit_learn_says_the_same() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (60, 5))
    logits = (rng.standard_normal((60, 5)) + y).astype(np.float32).round(1)
    found = label_figures(logits, y)
    assert found.mean_average_precision is not None
    expected = metrics.average_precision_score(y, logits, average="macro")
    assert found.mean_average_precision.value == pytest.approx(expected)
    assert found.accuracy.value == pytest.approx(1 - metrics.hamming_loss(y, logits > 0))


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_intervals_hold_their_value_and_narrow_with_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = []
    for n in (40, 640):
        y = rng.integers(0, 2, (n, 3))
        logits = (rng.standard_normal((n, 3)) + 2 * y - 1).astype(np.float32)
        found = label_figures(logits, y)
        for figure in (found.accuracy, found.mean_average_precision):
            assert figure is not None
            assert 0 <= figure.low <= figure.value <= figure.high <= 1
        widths.append(found.accuracy.high - found.accuracy.low)
    assert widths[1] < widths[0]


def test_labels_that_all_or_none_have_are_left_out() -> None:
    y = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1]])
    logits = np.array([[1, -1, 2], [1, 1, 1], [-1, -1, 3]], np.float32)
    found = label_figures(logits, y)
    assert found.by_label == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert found.mean_average_precision is not None
    assert found.mean_average_precision.value == 1
    assert label_figures(logits[:, :2], y[:, :2]).mean_average_precision is None


def test_no_numbers_are_wrong_and_rank_last() -> None:
    y = np.array([[1, 0], [0, 1], [1, 1]])
    logits = np.array([[np.nan, np.nan], [1, 1], [2, 2]], np.float32)
    found = label_figures(logits, y)
    assert found.by_label == pytest.approx((1 / 3, 2 / 3))
    assert found.mean_average_precision is not None
    # Ranks 2 1 3 of the first label with its positives at 1 and 3; of the second at 1 and 2.
    assert found.mean_average_precision.value == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


def test_nothing_to_measure_on() -> None:
    with pytest.raises(DataError, match="no samples"):
        label_figures(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.int64))
