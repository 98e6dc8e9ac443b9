"""What logits say against labels, against loops over samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.numeric.judging import is_right, margins, nearest_rivals, predicted, rivals_of

cases = st.tuples(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 5))


@given(cases)
def test_classes(case: tuple[int, int, int]) -> None:
    seed, n, classes = case
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 4, (n, classes)).astype(np.float32)
    y = rng.integers(0, classes, n)
    for row, (z, label) in enumerate(zip(logits, y, strict=True)):
        others = [z[c] for c in range(classes) if c != label]
        assert predicted(logits, independent=False)[row] == int(np.argmax(z))
        assert is_right(logits, y)[row] == (int(np.argmax(z)) == label)
        assert margins(logits, y)[row] == z[label] - max(others)
        order = nearest_rivals(logits, y, classes)[row]
        assert sorted(order) == [c for c in range(classes) if c != label]
        assert list(z[order]) == sorted(others, reverse=True)
    assert nearest_rivals(logits, y, 1).shape == (n, 1)


@given(cases)
def test_independent_labels(case: tuple[int, int, int]) -> None:
    seed, n, count = case
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 4, (n, count)).astype(np.float32)
    logits[logits == 0] = 0.5
    y = rng.integers(0, 2, (n, count))
    for row, (z, labels) in enumerate(zip(logits, y, strict=True)):
        own = [value if label else -value for value, label in zip(z, labels, strict=True)]
        assert list(predicted(logits, independent=True)[row]) == [int(value > 0) for value in z]
        assert is_right(logits, y)[row] == all(value > 0 for value in own)
        assert margins(logits, y)[row] == min(own)
        order = nearest_rivals(logits, y, count)[row]
        assert [own[label] for label in order] == sorted(own)
    assert rivals_of(count, independent=True) == count


def test_no_numbers_are_no_answer() -> None:
    logits = np.array([[1, np.nan, 0], [2, 1, 0]], np.float32)
    assert is_right(logits, np.array([0, 0])).tolist() == [False, True]
    assert is_right(logits, np.array([[1, 0, 0], [1, 1, 0]])).tolist() == [False, True]
