"""Pairs for a calibration: what the model says of both sides, where that is a number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import Fgsm, Pgd, ThreatModel
from cloakify.attacks.base import Attack
from cloakify.attacks.given import Count, Given, count_outside
from cloakify.attacks.pairs import attacked_pairs
from cloakify.data import Batch
from cloakify.errors import ModelError
from tests.support.classifiers import mlp_classifier, target_of, threat_of

N, D = 6, 5
TARGET = target_of(mlp_classifier(0, features=D, classes=3), batch_size=4)


def batch_of(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.random((N, D), np.float32)
    return Batch(x, TARGET.logits(x).argmax(axis=1), rng.permutation(50)[:N])


@pytest.mark.parametrize("attack", [Fgsm(), Pgd(steps=3)], ids=lambda attack: attack.name)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_both_sides_are_what_the_model_says_of_them(attack: Attack, norm: str) -> None:
    batch, threat = batch_of(0), threat_of(TARGET, norm, 0.1)
    found = attacked_pairs(TARGET, attack, threat, batch)
    attacked = attack.run(TARGET, batch.x, batch.y, batch.index, threat)
    for x, features, logits in (
        (batch.x, found.clean_features, found.clean_logits),
        (attacked, found.attacked_features, found.attacked_logits),
    ):
        expected_features, expected_logits = TARGET.features_and_logits(x)
        np.testing.assert_allclose(features, expected_features, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logits, expected_logits, rtol=1e-5, atol=1e-6)
    assert np.abs(found.clean_features - found.attacked_features).max() > 0
    np.testing.assert_array_equal(found.y, batch.y)
    np.testing.assert_array_equal(found.index, batch.index)


class Still(Attack):
    """Moves nothing."""

    name = "still"
    steps = 1  # type: ignore[assignment]

    def run(self, target: Any, x: np.ndarray, *_: Any) -> np.ndarray:
        return x


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, N - 1)), max_size=4),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_a_pair_with_what_is_no_number_on_either_side_is_left_out(
    spoilt: list[tuple[int, int]], with_what: float
) -> None:
    arrays = [np.ones((N, 2, 2)), np.ones((N, 3)), np.ones((N, 2, 2)), np.ones((N, 3))]
    for which, row in spoilt:
        arrays[which][row].flat[-1] = with_what
    asked = iter([(arrays[0], arrays[1]), (arrays[2], arrays[3])])
    target: Any = SimpleNamespace(features_and_logits=lambda x: next(asked))
    batch = batch_of(1)
    threat = threat_of(TARGET, "linf", 0.1)
    found = attacked_pairs(target, Still(), threat, batch)
    kept = [row for row in range(N) if row not in {row for _, row in spoilt}]
    np.testing.assert_array_equal(found.y, batch.y[kept])
    np.testing.assert_array_equal(found.index, batch.index[kept])
    for part in (found.clean_features, found.clean_logits, found.attacked_logits):
        assert len(part) == len(kept) and np.isfinite(part).all()


def test_features_that_are_not_counted_by_samples_make_no_pairs() -> None:
    target: Any = SimpleNamespace(
        features_and_logits=lambda x: (np.ones((2 * N, 3)), np.ones((N, 3))),
        name="m.onnx",
        scores=SimpleNamespace(features="f"),
    )
    with pytest.raises(ModelError, match=rf"m\.onnx: 'f' has {2 * N} rows of features for {N} sam"):
        attacked_pairs(target, Still(), threat_of(TARGET, "linf", 0.1), batch_of(2))


@given(st.integers(0, 2**32 - 1), st.integers(1, N))
def test_copies_are_counted_by_where_they_lie(seed: int, at_once: int) -> None:
    """In ball and box, outside of the ball, outside of the box: each by itself."""
    rng = np.random.default_rng(seed)
    factor = np.array([[1, 2, 0.5, 1, 4]], np.float32)
    threat = ThreatModel("linf", 0.1, factor, 0 * factor, factor)
    clean = (rng.choice([0, 0.5, 1], (N, D)) * factor).astype(np.float32)
    moves = rng.choice([0.0, 0.09, 0.2], N)[:, None] * rng.choice([-1, 1], (N, D)) * factor
    copies = (clean + moves).astype(np.float32)
    dataset: Any = SimpleNamespace(
        batches=lambda batch_size: (
            Batch(clean[start : start + batch_size], None, np.arange(N)[start : start + batch_size])  # type: ignore[arg-type]
            for start in range(0, N, batch_size)
        )
    )
    given_copies: Any = SimpleNamespace(load=lambda index: copies[index])
    near = (np.abs(copies - clean) <= 0.1001 * factor).all(axis=1)
    inside = ((copies >= 0) & (copies <= factor)).all(axis=1)
    expected = Count(
        sum(bool(a and b) for a, b in zip(near, inside, strict=True)),
        int((~near).sum()),
        int((~inside).sum()),
    )
    assert count_outside(given_copies, dataset, threat, at_once) == expected
    found = Given(given_copies).run(TARGET, clean, clean[:, 0], np.array([3, 1]), threat)
    np.testing.assert_array_equal(found, copies[[3, 1]])
    assert Given(given_copies).steps == 1
