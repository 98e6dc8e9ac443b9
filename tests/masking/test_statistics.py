"""Feature statistics are a commutative monoid over pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.masking.statistics import FeatureStatistics

Pairs = tuple[np.ndarray, ...]


def some_pairs(n: int, features: int = 7, classes: int = 4, seed: int = 0) -> Pairs:
    """Clean and attacked features, their logits, labels, and the head's weight."""
    rng = np.random.default_rng([seed, n])
    weight = rng.standard_normal((features, classes)).astype(np.float32)
    clean, attacked = rng.standard_normal((2, n, features)).astype(np.float32)
    y = rng.integers(0, classes, n)
    return clean, attacked, clean @ weight, attacked @ weight, y, weight


def part(pairs: Pairs, rows: slice) -> FeatureStatistics:
    *arrays, weight = pairs
    return FeatureStatistics.of_pairs(*(array[rows] for array in arrays), weight)


def close(first: FeatureStatistics, second: FeatureStatistics) -> bool:
    return (
        first.count == second.count
        and first.clean_correct == second.clean_correct
        and first.attacked_correct == second.attacked_correct
        and np.allclose(first.shift, second.shift, rtol=1e-12)
        and np.allclose(first.margin, second.margin, rtol=1e-9, atol=1e-9)
    )


def test_against_a_plain_loop() -> None:
    clean, attacked, z, z_attacked, y, weight = pairs = some_pairs(9)
    shift, margin = np.zeros(7), np.zeros(7)
    for i, label in enumerate(y):
        rival = max((c for c in range(4) if c != label), key=lambda c: z_attacked[i, c])
        for j in range(7):
            shift[j] += abs(float(attacked[i, j]) - float(clean[i, j]))
            margin[j] += float(attacked[i, j]) * float(weight[j, rival] - weight[j, label])
    found = part(pairs, slice(None))
    assert np.allclose(found.shift, shift)
    assert np.allclose(found.margin, margin)
    assert found.clean_correct == sum(
        row.argmax() == label for row, label in zip(z, y, strict=True)
    )


@given(st.lists(st.integers(0, 12), max_size=4), st.randoms(use_true_random=False))
def test_shards_merge_in_any_order(cuts: list[int], random) -> None:  # type: ignore[no-untyped-def]
    pairs = some_pairs(12)
    edges = [0, *sorted(cuts), 12]
    shards = [part(pairs, slice(a, b)) for a, b in pairwise(edges) if a < b]
    random.shuffle(shards)
    total = FeatureStatistics.empty(7)
    for shard in shards:
        total = total.merge(shard)
    assert close(total, part(pairs, slice(None)))


def test_positions_are_summed() -> None:
    clean, attacked, z, z_attacked, y, weight = some_pairs(5)
    spread = [np.stack([array, array], axis=1) for array in (clean, attacked)]
    found = FeatureStatistics.of_pairs(*spread, z, z_attacked, y, weight)
    once = FeatureStatistics.of_pairs(clean, attacked, z, z_attacked, y, weight)
    assert np.allclose(found.shift, 2 * once.shift)
    assert np.allclose(found.margin, once.margin)


def test_labels_against_a_plain_loop() -> None:
    clean, attacked, z, z_attacked, _, weight = some_pairs(9)
    y = np.random.default_rng(1).integers(0, 2, (9, 4))
    margin = np.zeros(7)
    for i, labels in enumerate(y):
        signs = [1 if label else -1 for label in labels]
        nearest = min(range(4), key=lambda k: signs[k] * z_attacked[i, k])
        for j in range(7):
            margin[j] -= float(attacked[i, j]) * signs[nearest] * float(weight[j, nearest])
    found = FeatureStatistics.of_pairs(clean, attacked, z, z_attacked, y, weight)
    assert np.allclose(found.margin, margin)
    assert found.clean_correct == sum(
        all((value > 0) == bool(label) for value, label in zip(row, labels, strict=True))
        for row, labels in zip(z, y, strict=True)
    )
