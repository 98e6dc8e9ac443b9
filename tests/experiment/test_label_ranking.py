"""Whether a model knows labels, by counting pairs of samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.experiment.label_ranking import rank_labels


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 4))
def test_the_area_counts_pairs(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 4, (n, count)).astype(np.float32)
    y = rng.integers(0, 2, (n, count))
    areas = []
    for z, holds in zip(logits.T, y.T, strict=True):
        pairs = [float(a > b) + 0.5 * float(a == b) for a in z[holds == 1] for b in z[holds == 0]]
        areas += [np.mean(pairs)] if pairs else []
    found = rank_labels(logits, y)
    if not areas:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_allclose(found.area, np.mean(areas))
        assert found.counted == len(areas)


def test_guesses_are_low_and_knowledge_is_not() -> None:
    rng = np.random.default_rng(0)
    low = 0
    for _ in range(100):
        y = rng.integers(0, 2, (200, 6))
        guessed = rank_labels(rng.standard_normal((200, 6)).astype(np.float32), y)
        known = rank_labels((rng.standard_normal((200, 6)) + y).astype(np.float32), y)
        assert guessed is not None
        assert known is not None
        low += guessed.is_low
        assert not known.is_low
    assert low >= 98
