"""Heads whose answer is a vote of several layers, and masks before such, by the formula alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from cloakify.masking import voted_curve
from cloakify.masking.curve import Group, MaskCurve
from cloakify.masking.linear_head import LinearHead

seeds = st.integers(0, 2**32 - 1)


def drawn(rng: np.random.Generator, depth: int, classes: int, layers: int) -> LinearHead:
    """Draw a vote of so many layers, and how much each counts."""
    shares = rng.dirichlet(np.ones(layers)).tolist()
    each = [
        LinearHead(
            rng.standard_normal((depth, classes)).astype(np.float32),
            rng.standard_normal(classes).astype(np.float32),
        )
        for _ in range(layers)
    ]
    return LinearHead.of_votes(each, shares)


def answers(head: LinearHead, features: np.ndarray) -> np.ndarray:
    """``log Σ_k share_k · softmax(φ W_k + b_k)``, [n, C]."""
    scores = [
        np.log(share) + log_softmax(features.astype(float) @ vote.weight + vote.bias, axis=1)
        for vote, share in zip(head.votes, head.shares, strict=True)
    ]
    return np.asarray(logsumexp(np.stack(scores), axis=0))


@given(seeds, st.integers(1, 6), st.integers(2, 4), st.integers(1, 3), st.booleans())
def test_logits_are_the_logarithm_of_the_mean_of_probabilities(
    seed: int, depth: int, classes: int, layers: int, masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    head = drawn(rng, depth, classes, layers)
    features = (10 * rng.standard_normal((5, depth))).astype(np.float32)
    mask = rng.integers(0, 2, depth).astype(np.float32) if masked else None
    expected = answers(head, features if mask is None else features * mask)
    np.testing.assert_allclose(head.logits(features, mask), expected, rtol=1e-4, atol=1e-4)
    # Features are ranked by the mean of the layers.
    shares = np.array(head.shares)
    weights, biases = (
        np.stack([getattr(vote, name) for vote in head.votes]) for name in ("weight", "bias")
    )
    np.testing.assert_allclose(head.weight, np.einsum("k,kdc->dc", shares, weights), atol=1e-5)
    np.testing.assert_allclose(head.bias, shares @ biases, atol=1e-5)


@given(seeds, st.integers(1, 7), st.sampled_from([1, 60, 1 << 22]))
def test_a_curve_counts_the_answers_at_every_size(seed: int, depth: int, at_once: int) -> None:
    """Of clean samples those that are right without a mask apart from those that are not."""
    rng = np.random.default_rng(seed)
    head, ranking = drawn(rng, depth, 3, 2), rng.permutation(depth)
    clean, attacked = rng.standard_normal((2, 6, depth)).astype(np.float32)
    y = rng.integers(0, 3, 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voted_curve, "_AT_ONCE", at_once)
        found = MaskCurve.empty(ranking).update(head, Group.of([(clean, attacked, y)]))
    assert found.count == 6
    whole = answers(head, clean).argmax(axis=1) == y
    for size in range(depth + 1):
        mask = np.ones(depth, np.float32)
        mask[ranking[:size]] = 0
        on_clean, on_attacked = (
            answers(head, side * mask).argmax(axis=1) == y for side in (clean, attacked)
        )
        assert found.clean[size] == on_clean.sum()
        assert found.kept[size] == (on_clean & whole).sum()
        assert found.attacked[size] == on_attacked.sum()


@given(seeds, st.booleans())
def test_features_of_a_cosine_are_of_length_one_once_they_are_masked(
    seed: int, masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((5, 3)).astype(np.float32)
    head = LinearHead(weight, np.zeros(3, np.float32), cosine=True)
    features = (rng.standard_normal((4, 5)) * [[1e-3], [1], [50], [1]]).astype(np.float32)
    mask = np.array([1, 0, 1, 1, 0], np.float32) if masked else np.ones(5, np.float32)
    # Nothing has no length, and adds nothing.
    features[3] = 0
    expected = [
        row @ weight / (np.linalg.norm(row) or 1) for row in (features * mask).astype(float)
    ]
    found = head.logits(features, mask if masked else None)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    of_one = head.prepared(features[:3].reshape(1, 3, 5))
    np.testing.assert_allclose(np.linalg.norm(of_one, axis=2), 1, rtol=1e-5)
    plain = LinearHead(weight, np.zeros(3, np.float32))
    np.testing.assert_array_equal(plain.prepared(features), features)
