"""All mask sizes at once, against masking one size after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import GateError, UsageError
from cloakify.masking import curve
from cloakify.masking.curve import Group, MaskCurve, in_groups, right_at_every_size
from cloakify.masking.feature_scores import random_ranking, rank
from cloakify.masking.linear_head import LinearHead
from cloakify.masking.mask_choice import best_size, choose, refusal, size_of_ratio


def exact_logits(head: LinearHead, features: np.ndarray) -> np.ndarray:
    return features.astype(np.float64) @ head.weight.astype(np.float64) + head.bias


def brute_force(
    head: LinearHead, features: np.ndarray, y: np.ndarray, ranking: np.ndarray
) -> list[int]:
    counts = []
    for size in range(len(ranking) + 1):
        mask = np.ones(len(ranking))
        mask[ranking[:size]] = 0
        logits = exact_logits(head, features * mask)
        counts.append(int((logits.argmax(axis=1) == y).sum()))
    return counts


@settings(max_examples=60)
@given(
    st.integers(1, 150),
    st.integers(2, 6),
    st.integers(1, 9),
    st.integers(0, 10_000),
    st.booleans(),
    st.sampled_from([1 << 10, curve.CHUNK]),
)
def test_every_size(size: int, classes: int, n: int, seed: int, integers: bool, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    if integers:  # equal logits are common then, and the first class must win
        weight = rng.integers(-1, 2, (size, classes)).astype(np.float32)
        clean, attacked = rng.integers(0, 2, (2, n, size)).astype(np.float32)
        bias = np.zeros(classes, np.float32)
    else:
        weight = rng.standard_normal((size, classes)).astype(np.float32)
        clean, attacked = rng.standard_normal((2, n, size)).astype(np.float32)
        bias = rng.standard_normal(classes).astype(np.float32)
    head = LinearHead(weight, bias)
    y = rng.integers(0, classes, n)
    ranking = rng.permutation(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "CHUNK", chunk)
        kept, won, under_attack = right_at_every_size(
            head, Group.of([(clean, attacked, y)]), ranking
        )
    assert under_attack.tolist() == brute_force(head, attacked, y, ranking)
    right = exact_logits(head, clean).argmax(axis=1) == y
    assert kept.tolist() == brute_force(head, clean[right], y[right], ranking)
    assert won.tolist() == brute_force(head, clean[~right], y[~right], ranking)


def test_batches_add_up() -> None:
    rng = np.random.default_rng(0)
    head = LinearHead(rng.standard_normal((40, 5)).astype(np.float32), np.zeros(5, np.float32))
    clean, attacked = rng.standard_normal((2, 30, 40)).astype(np.float32)
    y, ranking = rng.integers(0, 5, 30), rng.permutation(40)
    whole = MaskCurve.empty(ranking).update(head, Group.of([(clean, attacked, y)]))
    parts = MaskCurve.empty(ranking)
    for rows in (slice(0, 1), slice(1, 18), slice(18, 30)):
        parts = parts.update(head, Group.of([(clean[rows], attacked[rows], y[rows])]))
    assert parts.count == whole.count
    assert (parts.clean == whole.clean).all() and (parts.attacked == whole.attacked).all()
    assert (parts.changed == whole.changed).all()
    for size in (1, 20, 40):
        mask = np.ones(40, np.float32)
        mask[ranking[:size]] = 0
        before, after = (head.logits(clean, m).argmax(axis=1) == y for m in (None, mask))
        assert whole.changed[size] == (before != after).sum()


def test_groups_hold_every_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloakify.masking.curve.GROUP", 12)
    rng = np.random.default_rng(0)
    # The second position is the first's double: their mean is 1.5 times the first.
    sizes = (1, 2, 1, 5, 1)
    parts = []
    for n in sizes:
        first = rng.uniform(1, 2, (n, 1, 2)).astype(np.float32)
        features = np.concatenate([first, 2 * first], axis=1)
        parts.append((features, -features, rng.integers(0, 3, n)))
    groups = list(in_groups(parts))
    assert [group.count for group in groups] == [3, 6, 1]
    found, wanted = [], []
    for group in groups:
        assert (np.diff(group.y) >= 0).all()
        found += [
            (bool(a), int(label), *row)
            for a, label, row in zip(group.attacked, group.y, group.features, strict=True)
        ]
    for clean, attacked, y in parts:
        for is_attacked, features in ((False, clean), (True, attacked)):
            means = features.mean(axis=1)
            wanted += [(is_attacked, int(label), *m) for label, m in zip(y, means, strict=True)]
    assert sorted(found) == sorted(wanted)


def test_best_size_by_hand() -> None:
    clean = np.array([90, 90, 89, 88, 10])
    small = MaskCurve(np.arange(4), 100, clean, np.array([50, 55, 60, 70, 99]), clean)
    assert best_size(small, 0.01) == 2
    assert best_size(small, 0.02) == 3
    assert best_size(small, 1.0) == 4
    nines = np.full(4, 9)
    flat = MaskCurve(np.arange(3), 10, nines, np.array([5, 5, 5, 5]), nines)
    assert best_size(flat, 0.0) == 1


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=2, max_size=8),
    st.sampled_from([1, 2, 12]),
    st.integers(0, 12),
    st.booleans(),
)
def test_best_size_by_looking_at_each(
    points: list[tuple[int, int, int]], kinds: int, allowed: int, conservative: bool
) -> None:
    """In whole numbers; a standard error is the root of the answers that have changed."""
    first = max(points[0][:2])
    kept = [first, *(min(first, *point[:2]) for point in points[1:])]
    clean = [first, *(max(point[:2]) for point in points[1:])]
    # None withstands, few sizes differ, or most do.
    attacked = [point[2] % kinds for point in points]
    best = None
    for size in range(1, len(points)):
        left = allowed - (first - clean[size])
        changed = (first - kept[size]) + (clean[size] - kept[size])
        fits = left >= 0 and (left**2 >= changed or not conservative)
        if fits and (best is None or attacked[size] > attacked[best]):
            best = size
    counts = (np.array(values) for values in (clean, attacked, kept))
    whole = MaskCurve(np.arange(len(points) - 1), 24, *counts)
    assert best_size(whole, allowed / 24, conservative=conservative) == best


def test_a_loss_that_may_be_larger_elsewhere() -> None:
    """At size 2 one answer is lost on balance, but nine have changed: one standard error is 3."""
    curve = MaskCurve(
        np.arange(3),
        100,
        np.array([90, 90, 89, 60]),
        np.array([50, 55, 60, 70]),
        np.array([90, 90, 85, 60]),
    )
    assert curve.changed.tolist() == [0, 0, 9, 30]
    assert best_size(curve, 0.02) == 2
    assert best_size(curve, 0.02, conservative=True) == 1
    assert best_size(curve, 0.04, conservative=True) == 2
    restless = MaskCurve(
        np.arange(1), 100, np.array([90, 90]), np.array([50, 60]), np.array([90, 81])
    )
    assert best_size(restless, 0.01, conservative=True) is None
    assert best_size(restless, 0.01) == 1


def test_no_size_is_cheap_enough() -> None:
    clean = np.array([90, 70, 60])
    curve = MaskCurve(np.arange(2), 100, clean, np.array([50, 55, 60]), clean)
    assert best_size(curve, 0.01) is None
    with pytest.raises(GateError, match=r"more than 1.0 %.*costs 20.0 %"):
        raise refusal(curve, 0.01)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=9), st.floats(0, 0.2))
def test_a_refusal_tells_the_cheapest_mask(clean: list[int], drop: float) -> None:
    counts = np.array(clean)
    whole = MaskCurve(np.arange(len(clean) - 1), 100, counts, counts, counts)
    best = max(range(1, len(clean)), key=lambda size: (clean[size], -size))
    told = str(refusal(whole, drop))
    assert f"every mask costs more than {100 * drop:.1f} % of clean accuracy" in told
    cost = (clean[0] - clean[best]) / 100
    assert f"the cheapest, {best} of {len(clean) - 1} features, costs {100 * cost:.1f} %" in told


@given(st.integers(1, 5000), st.fractions(0, 1).filter(lambda r: 0 < float(r) < 1))
def test_ratio_is_floored(features: int, ratio: object) -> None:
    exact = int(features * ratio)  # type: ignore[operator]
    assert size_of_ratio(features, float(ratio)) in (max(1, exact), max(1, exact + 1))  # type: ignore[arg-type]
    assert size_of_ratio(100, 0.29) == 29  # 100 · 0.29 is 28.999… in binary


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_bad_ratio(ratio: float) -> None:
    with pytest.raises(UsageError, match="--mask-ratio"):
        size_of_ratio(10, ratio)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_ties_go_to_the_lower_index(scores: list[int]) -> None:
    ranking = rank(np.array(scores, float))
    assert ranking.tolist() == sorted(range(len(scores)), key=lambda j: (-scores[j], j))


def test_choice() -> None:
    choice = choose(np.array([2, 0, 1]), 2, "deepcloak")
    assert choice.mask.tolist() == [0, 1, 0]
    assert choice.removed.tolist() == [0, 2]
    assert choice.ratio == pytest.approx(2 / 3)
    assert sorted(random_ranking(50, 3).tolist()) == list(range(50))
