"""Near-chance accuracy: refused unless guessing is excluded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.data import check_clean_accuracy
from cloakify.errors import DataError


@given(st.integers(1, 3000), st.integers(2, 1000), st.data())
def test_guessing_is_refused_by_the_wilson_interval(n, classes, data):
    correct = data.draw(st.integers(0, n))
    # Independent form of the Wilson interval: chance p is excluded where the score test of p
    # rejects, (x − np)² > z² np(1 − p), on the upper side.
    p, z = 1 / classes, 1.959963984540054
    excess = correct - n * p
    margin = excess * excess - z * z * n * p * (1 - p)
    if abs(margin) < 1e-6 * n:
        return
    if excess > 0 and margin > 0:
        check_clean_accuracy(correct, n, classes)
    else:
        with pytest.raises(DataError):
            check_clean_accuracy(correct, n, classes)


@pytest.mark.parametrize(
    ("correct", "n", "classes", "said"),
    [
        (11, 100, 10, r"clean accuracy is 11.0% \(11 of 100\), near chance \(10.0%\): check the"),
        (0, 100, 10, "near chance"),
        (3, 3, 2, "3 samples are too few to tell"),
        (0, 0, 2, "no sample"),
    ],
)
def test_messages(correct, n, classes, said):
    with pytest.raises(DataError, match=said):
        check_clean_accuracy(correct, n, classes)


def test_a_few_right_answers_among_many_classes_pass():
    check_clean_accuracy(3, 4, 1000)
