"""Orders of classes: those that are wrong are seen, and honest models of low accuracy pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.experiment.class_order import find_better_order, is_low

# Accuracy, classes and samples; the first is what the README's data are.
SIZES = [(0.77, 10, 256), (0.4, 100, 1000), (0.6, 3, 300), (0.75, 2, 256), (0.3, 1000, 2048)]


def runs(classes: int) -> int:
    """Return how many models are tried."""
    return 20 if classes < 100 else 5 if classes < 1000 else 2


def answers(
    accuracy: float, classes: int, samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels and predictions of a nearest-mean classifier of about that accuracy.

    Its mistakes go to neighbouring classes, so they are far from even.
    """
    means = rng.standard_normal((classes, 16))
    labels = rng.permutation(np.arange(samples) % classes)
    low, high = 0.0, 20.0
    noise = rng.standard_normal((samples, 16))
    for _ in range(8):
        width = (low + high) / 2
        scores = 2 * (means[labels] + width * noise) @ means.T - np.square(means).sum(1)
        found = scores.argmax(1)
        low, high = (width, high) if (found == labels).mean() > accuracy else (low, width)
    return labels, found


@pytest.mark.parametrize(("accuracy", "classes", "samples"), SIZES)
def test_honest_models_pass(accuracy: float, classes: int, samples: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(runs(classes)):
        labels, found = answers(accuracy, classes, samples, rng)
        assert find_better_order(labels, found, classes) is None
        assert not is_low(int((labels == found).sum()), samples, classes)


@pytest.mark.parametrize(("accuracy", "classes", "samples"), SIZES)
@pytest.mark.parametrize("kind", ["any", "shifted", "as text"])
def test_no_wrong_order_passes(accuracy: float, classes: int, samples: int, kind: str) -> None:
    """It is named where there are enough samples of each class to tell it, and stops a run."""
    rng = np.random.default_rng(1)
    named = 0
    for _ in range(runs(classes)):
        labels, found = answers(accuracy, classes, samples, rng)
        order = {
            "any": rng.permutation(classes),
            "shifted": np.roll(np.arange(classes), 1),
            "as text": np.array(sorted(range(classes), key=str)),
        }[kind]
        if (order == np.arange(classes)).mean() > 0.4:
            continue
        # What the data calls i is the model's class order[i].
        labels = np.argsort(order)[labels]
        better = find_better_order(labels, found, classes)
        assert better or is_low(int((labels == found).sum()), samples, classes)
        if better:
            named += 1
            if samples >= 10 * classes:
                # Of fewer samples hardly each class can be put in place.
                assert (better.labels[order] == np.arange(classes)).mean() > 0.85
                assert better.accuracy == pytest.approx(accuracy, abs=0.12)
            assert better.accuracy > 1.5 * (labels == found).mean()
    assert named or kind != "shifted"


@pytest.mark.parametrize(
    ("accuracy", "classes", "samples"), [(0.77, 10, 256), (0.92, 10, 1000), (0.8, 100, 2000)]
)
def test_two_classes_in_each_others_place(accuracy: float, classes: int, samples: int) -> None:
    rng = np.random.default_rng(2)
    seen = 0
    for _ in range(runs(classes)):
        labels, found = answers(accuracy, classes, samples, rng)
        swap = np.arange(classes)
        swap[:2] = 1, 0
        better = find_better_order(swap[labels], found, classes)
        seen += better is not None
        if better is not None:
            assert (better.labels == swap).mean() > 0.95
    assert seen >= 0.8 * runs(classes)


def test_some_of_the_classes() -> None:
    rng = np.random.default_rng(3)
    labels, found = answers(0.77, 10, 600, rng)
    part = labels < 6
    assert find_better_order(labels[part], found[part], 10) is None
    shifted = (labels[part] + 1) % 10
    better = find_better_order(shifted, found[part], 10)
    assert better is not None
    assert better.labels[:6].tolist() == [1, 2, 3, 4, 5, 6]
    assert sorted(better.labels.tolist()) == list(range(10))


def test_answers_that_are_all_one_class_fit_no_order() -> None:
    labels = np.arange(500) % 10
    assert find_better_order(labels, np.full(500, 3), 10) is None
    assert is_low(50, 500, 10)


def test_guesses_hardly_ever_fit_an_order() -> None:
    """One in 200 at most: a draw that does can always be found by looking for it."""
    misled = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        classes, samples = int(rng.integers(2, 13)), int(rng.integers(1, 81))
        labels, found = rng.integers(0, classes, (2, samples))
        misled += find_better_order(labels, found, classes) is not None
    assert misled <= 5


@given(st.integers(1, 3000), st.integers(2, 1000), st.data())
def test_guessing_is_excluded_by_the_score_test(n: int, classes: int, data: st.DataObject) -> None:
    """Wilson's interval inverts it: chance p is excluded where (k − np)² > z² np(1 − p)."""
    correct = data.draw(st.integers(0, n))
    p, z = 1 / classes, 1.959963984540054
    excess = correct - n * p
    margin = excess * excess - z * z * n * p * (1 - p)
    if abs(margin) < 1e-6 * n:
        return
    if excess < 0 or margin < 0:
        assert is_low(correct, n, classes)


@pytest.mark.parametrize(
    ("correct", "n", "classes", "low"),
    [
        (3, 4, 1000, False),  # few samples of a good model
        (29, 100, 10, False),  # 29 % may be 32 %
        (240, 1000, 10, True),  # 24 % of ten is slight
        (350, 1000, 10, False),
        (80, 1000, 100, True),
        (150, 1000, 100, False),
        (550, 1000, 2, True),
        (650, 1000, 2, False),
    ],
)
def test_low(correct: int, n: int, classes: int, low: bool) -> None:
    assert is_low(correct, n, classes) == low
