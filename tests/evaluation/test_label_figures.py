"""Figures of independent labels: by definition, against scikit-learn, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cloakify.evaluation.label_figures as label_module
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


@settings(max_examples=5)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.8]), st.integers(1, 3))
def test_an_interval_is_as_wide_as_that_of_a_mean(seed: int, share: float, labels: int) -> None:
    """Of shares of right answers, a sample's being its own: 1.96 standard errors to each side."""
    rng, n = np.random.default_rng(seed), 600
    right = rng.random((n, labels)) < share
    y = rng.integers(0, 2, (n, labels))
    logits = np.where(right, 2 * y - 1, 1 - 2 * y).astype(np.float32)
    figure = label_figures(logits, y).accuracy
    shares = right.mean(axis=1)
    assert figure.value == pytest.approx(shares.mean())
    error = 1.96 * shares.std() / np.sqrt(n)
    # Percentiles of a thousand resamples are some per cent off.
    assert figure.high - figure.value == pytest.approx(error, rel=0.2)
    assert figure.value - figure.low == pytest.approx(error, rel=0.2)


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_resamples_draw_as_many_samples_again_whatever_is_drawn_at_once(seed: int) -> None:
    n = 3 + seed % 50
    (whole,) = label_module._resamples(n)
    assert whole.shape == (label_module.RESAMPLES, n) and (whole.sum(axis=1) == n).all()
    # A sample is drawn n times in n draws, each time with a chance of 1 / n.
    assert whole.mean(axis=0) == pytest.approx(np.ones(n), abs=6 / np.sqrt(1000))
    assert whole.var() == pytest.approx(1 - 1 / n, rel=0.15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_module, "CHUNK", 7 * n)
        parts = list(label_module._resamples(n))
    assert [len(part) for part in parts] == [7] * 142 + [6]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


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


@pytest.mark.parametrize("n", [2, 3, 5])
def test_of_few_samples_the_interval_is_still_one(n: int) -> None:
    """Many resamples hold no sample with the label: they say nothing for it, and count as 0."""
    y = (np.arange(n) == 0).astype(np.int64)[:, None]
    found = label_figures(np.where(y, 1, -1).astype(np.float32), y).mean_average_precision
    assert found is not None
    assert (found.low, found.value, found.high) == (0, 1, 1)
