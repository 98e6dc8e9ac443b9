"""Splits and subsets: disjoint, complete, in proportion, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloakify.data import split
from cloakify.data.splits import subset
from cloakify.errors import DataError, UsageError

labels = hnp.arrays(np.int64, st.integers(3, 200), elements=st.integers(0, 6))
seeds = st.integers(-(2**63), 2**64)
PINNED = ([2, 3, 4, 6, 7, 11], [0, 8, 10], [1, 5, 9])


@given(labels, seeds)
def test_splits_are_disjoint_complete_and_sorted(y, seed):
    splits = split(len(y), y, seed)
    parts = [splits.fit, splits.select, splits.report]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    for part in parts:
        assert part.dtype == np.int64
        assert len(part)
        assert (np.diff(part) > 0).all()


@given(labels, seeds)
def test_every_class_is_split_in_proportion(y, seed):
    splits = split(len(y), y, seed)
    for part, share in ((splits.fit, 2), (splits.select, 4), (splits.report, 4)):
        assert abs(len(part) - len(y) / share) <= 1
        for label in np.unique(y):
            count = np.count_nonzero(y == label)
            assert abs(np.count_nonzero(y[part] == label) - count / share) <= 1


@given(labels, seeds)
def test_the_same_seed_splits_the_same(y, seed):
    one, two = split(len(y), y, seed), split(len(y), y.copy(), seed)
    for name in ("fit", "select", "report"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_another_seed_splits_otherwise_and_each_sample_goes_everywhere():
    y = np.arange(40) % 2
    seen = np.zeros((40, 3), int)
    for seed in range(200):
        splits = split(40, y, seed)
        for column, part in enumerate((splits.fit, splits.select, splits.report)):
            seen[part, column] += 1
    # Each sample falls in fit half of the time: 100 ± 7 of 200, in the others 50 ± 6.
    assert np.abs(seen[:, 0] - 100).max() < 35
    assert np.abs(seen[:, 1:] - 50).max() < 30


def test_the_order_is_pinned():
    """A hardened file can be made again only while the splits of a seed stay what they are."""
    splits = split(12, np.arange(12) % 3, 0)
    assert (splits.fit.tolist(), splits.select.tolist(), splits.report.tolist()) == PINNED


def test_splits_without_labels():
    splits = split(8, None, 1)
    assert (len(splits.fit), len(splits.select), len(splits.report)) == (4, 2, 2)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_samples(n):
    with pytest.raises(DataError, match="give at least 3"):
        split(n, np.zeros(n, np.int64), 0)


def test_labels_must_be_as_many_as_samples():
    with pytest.raises(ValueError, match="3 samples"):
        split(3, np.zeros(4, np.int64), 0)


@given(labels, seeds, st.integers(1, 250))
def test_subset_is_in_proportion(y, seed, limit):
    rows = subset(len(y), y, limit, seed)
    assert len(rows) == min(limit, len(y))
    assert (np.diff(rows) > 0).all()
    for label in np.unique(y):
        exact = np.count_nonzero(y == label) * len(rows) / len(y)
        assert abs(np.count_nonzero(y[rows] == label) - exact) < 1


def test_subset_depends_on_the_seed_only():
    y = np.arange(1000) % 10
    np.testing.assert_array_equal(subset(1000, y, 50, 3), subset(1000, y, 50, 3))
    assert (subset(1000, y, 50, 3) != subset(1000, y, 50, 4)).any()


def test_a_limit_below_one_is_refused():
    with pytest.raises(UsageError, match="--limit"):
        subset(5, None, 0, 0)


def test_every_combination_of_labels_is_dealt_in_proportion():
    y = np.array([[0, 1], [1, 0], [1, 1]])[np.arange(120) % 3]
    splits = split(120, y, 0)
    for part, share in ((splits.fit, 20), (splits.select, 10), (splits.report, 10)):
        _, counts = np.unique(y[part], axis=0, return_counts=True)
        assert counts.tolist() == [share] * 3
    chosen = subset(120, y, 30, 0)
    assert np.unique(y[chosen], axis=0, return_counts=True)[1].tolist() == [10] * 3
