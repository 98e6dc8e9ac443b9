"""Exact matches at every mask size, against masks that are put in one after another."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.masking import label_curve
from cloakify.masking.curve import Group, MaskCurve
from cloakify.masking.linear_head import LinearHead


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(2, 4), st.sampled_from([4, 1 << 20]))
def test_every_size_by_brute_force(seed: int, features: int, labels: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    head = LinearHead(
        rng.standard_normal((features, labels)).astype(np.float32),
        rng.standard_normal(labels).astype(np.float32),
    )
    parts = []
    for n in (3, 5):
        clean, attacked = rng.standard_normal((2, n, features)).astype(np.float32)
        parts.append((clean, attacked, rng.integers(0, 2, (n, labels))))
    ranking = rng.permutation(features)
    label_curve.CHUNK, before = chunk, label_curve.CHUNK
    try:
        curve = MaskCurve.empty(ranking).update(head, Group.of(parts))
    finally:
        label_curve.CHUNK = before
    for size in range(features + 1):
        mask = np.ones(features, np.float32)
        mask[ranking[:size]] = 0
        right = [
            [((head.logits(side, mask) > 0) == y).all(axis=1) for side in (clean, attacked)]
            for clean, attacked, y in parts
        ]
        unmasked = [((head.logits(clean) > 0) == y).all(axis=1) for clean, _, y in parts]
        assert curve.clean[size] == sum(clean.sum() for clean, _ in right)
        assert curve.attacked[size] == sum(attacked.sum() for _, attacked in right)
        kept = sum((now[0] & was).sum() for now, was in zip(right, unmasked, strict=True))
        assert curve.kept[size] == kept
    assert curve.count == 8
