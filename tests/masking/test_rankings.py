"""Rankings that learn: slopes against finite differences, and masks that do what they are for."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import UsageError
from cloakify.masking.captured import Captured, chosen_for_capture, pooled
from cloakify.masking.greedy import greedy_rankings, loss_slopes
from cloakify.masking.linear_head import LinearHead
from cloakify.masking.rankings import AUTO, CLEAN_WEIGHTS, RANKINGS, candidates, products_of
from cloakify.masking.relaxed import relaxed_rankings
from cloakify.masking.statistics import FeatureStatistics
from cloakify.settings import HardenSetting


def some_head(size: int, classes: int, seed: int) -> LinearHead:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((size, classes)).astype(np.float32)
    return LinearHead(weight, rng.standard_normal(classes).astype(np.float32))


def cross_entropy(head: LinearHead, features: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    z = (features.astype(np.float64) * mask) @ head.weight.astype(np.float64) + head.bias
    if y.ndim == 2:
        return float(np.mean(np.logaddexp(0, z * (1 - 2 * y)).sum(axis=1)))
    return float(np.mean(np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]))


@given(st.integers(1, 8), st.integers(2, 5), st.integers(1, 6), st.integers(0, 1000), st.booleans())
def test_slope_is_the_derivative(
    size: int, classes: int, n: int, seed: int, independent: bool
) -> None:
    rng = np.random.default_rng(seed)
    # A class for each sample, or labels of 0 and 1.
    top, shape = (2, (classes,)) if independent else (classes, ())
    head = some_head(size, classes, seed)
    captured = Captured(
        rng.standard_normal((n, size)).astype(np.float32),
        rng.standard_normal((2 * n, size)).astype(np.float32),
        rng.integers(0, top, (n, *shape)),
        rng.integers(0, top, (2 * n, *shape)),
    )
    masks, weights = rng.random((3, size)).astype(np.float32), (0.3, 1.0, 5.0)

    def loss(mask: np.ndarray, weight: float) -> float:
        attacked = cross_entropy(head, captured.attacked, captured.attacked_y, mask)
        return attacked + weight * cross_entropy(head, captured.clean, captured.y, mask)

    found = loss_slopes(head, captured, masks, weights)
    for mask, weight, slope in zip(masks, weights, found, strict=True):
        for j, moved in enumerate(1e-5 * np.eye(size)):
            numeric = (loss(mask + moved, weight) - loss(mask - moved, weight)) / 2e-5
            assert slope[j] == pytest.approx(numeric, abs=1e-3)


def planted(n: int = 200, size: int = 40, seed: int = 0) -> tuple[LinearHead, Captured, set[int]]:
    """Two classes told apart by half of the features; the attack turns on five of the others."""
    rng = np.random.default_rng(seed)
    weight = np.zeros((size, 2), np.float32)
    weight[:20, 0], weight[:20, 1] = 1, -1
    harmful = {21, 25, 30, 33, 39}
    weight[sorted(harmful), 1] = 3
    head = LinearHead(weight, np.zeros(2, np.float32))
    y = np.zeros(n, np.int64)
    clean = rng.random((n, size)).astype(np.float32)
    clean[:, 20:] *= 0.05
    attacked = clean.copy()
    attacked[:, sorted(harmful)] += 4
    # Moves a lot, but no logit hangs on it: what the shift alone is fooled by.
    attacked[:, 22] += 50
    return head, Captured(clean, attacked, y, y), harmful


@pytest.mark.parametrize("weight", CLEAN_WEIGHTS)
@pytest.mark.parametrize("ranking", [greedy_rankings, relaxed_rankings])
def test_planted_features_go_first(ranking: object, weight: float) -> None:
    head, captured, harmful = planted()
    (found,) = ranking(head, captured, [weight])  # type: ignore[operator]
    assert sorted(found.tolist()) == list(range(40))
    assert set(found[:5].tolist()) == harmful


def test_shift_alone_is_fooled() -> None:
    head, captured, _ = planted()
    statistics = FeatureStatistics.of_pairs(
        captured.clean,
        captured.attacked,
        head.logits(captured.clean),
        head.logits(captured.attacked),
        captured.y,
        head.weight,
    )
    (shifted,) = RANKINGS["deepcloak"](statistics, head, captured)
    (gained,) = RANKINGS["margin"](statistics, head, captured)
    assert shifted[0] == 22
    assert 22 not in gained[:5]


@given(st.integers(1, 7), st.integers(0, 1000))
def test_greedy_looks_again_after_every_feature_of_few(size: int, seed: int) -> None:
    """By central differences of the loss; the steepest of what is left goes next."""
    rng = np.random.default_rng(seed)
    head = some_head(size, 3, seed)
    clean, attacked = rng.standard_normal((2, 6, size)).astype(np.float32)
    y = rng.integers(0, 3, 6)
    captured, weights = Captured(clean, attacked, y, y), (0.2, 2.0)
    for weight, found in zip(weights, greedy_rankings(head, captured, weights), strict=True):
        mask, left, order = np.ones(size), set(range(size)), []
        while left:
            slopes = {}
            for j in left:
                moved = 1e-5 * np.eye(size)[j]
                sides = [
                    cross_entropy(head, attacked, y, there)
                    + weight * cross_entropy(head, clean, y, there)
                    for there in (mask + moved, mask - moved)
                ]
                slopes[j] = sides[0] - sides[1]
            order.append(max(slopes, key=slopes.__getitem__))
            left.remove(order[-1])
            mask[order[-1]] = 0
        assert found.tolist() == order


@pytest.mark.parametrize("ranking", [greedy_rankings, relaxed_rankings])
def test_a_feature_that_the_clean_samples_need_waits_where_they_count(ranking: object) -> None:
    """Feature 0 helps the attacker most and is all that tells class 0; 1 only helps him."""
    weight = np.array([[1.0, -1.0], [-0.2, 0.2], [0.0, 0.0]], np.float32)
    head = LinearHead(weight, np.zeros(2, np.float32))
    y = np.zeros(50, np.int64)
    clean = np.tile(np.array([1.0, 0.1, 1.0], np.float32), (50, 1))
    attacked = np.tile(np.array([-3.0, 3.0, 1.0], np.float32), (50, 1))
    captured = Captured(clean, attacked, y, y)
    little, much = ranking(head, captured, [0.01, 30.0])  # type: ignore[operator]
    assert (little[0], much[0]) == (0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_relaxed_ends_at_the_optimum(seed: int) -> None:
    """The objective is convex in the mask; what its optimum turns off goes before what it keeps."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    head = some_head(12, 3, seed)
    clean = rng.standard_normal((60, 12)).astype(np.float32)
    y = head.logits(clean).argmax(axis=1)
    attacked = clean - head.weight[:, y].T * rng.random(12).astype(np.float32)
    captured = Captured(clean, attacked, y, y)

    def objective(mask: np.ndarray) -> float:
        parts = ((captured.attacked, 1.0), (captured.clean, 0.3))
        return sum(w * cross_entropy(head, features, y, mask) for features, w in parts)

    (ranking,) = relaxed_rankings(head, captured, [0.3])
    best = optimize.minimize(objective, np.ones(12), bounds=[(0, 1)] * 12).x
    off, on = np.flatnonzero(best < 0.01), np.flatnonzero(best > 0.5)
    assert len(off) and len(on)
    assert set(ranking[: len(off)]) == set(off)
    assert set(ranking[-len(on) :]) == set(on)


def test_candidates() -> None:
    assert candidates("auto") == tuple(RANKINGS)
    assert candidates("margin") == ("margin",)
    with pytest.raises(UsageError, match="--score"):
        candidates("best")


@pytest.mark.parametrize("score", [AUTO, *RANKINGS])
def test_products_are_what_a_score_multiplies(score: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At clean and at attacked samples, to the logits and back, for each mask that is looked at."""
    head, captured, _ = planted(4, 70)
    statistics = FeatureStatistics.empty(70)
    looked_at: list[int] = []

    def noted(*given_so: object) -> np.ndarray:
        masks = given_so[2]
        assert isinstance(masks, np.ndarray)
        looked_at.append(len(masks))
        return loss_slopes(*given_so)  # type: ignore[arg-type]

    for module in ("greedy", "relaxed"):
        monkeypatch.setattr(f"cloakify.masking.{module}.loss_slopes", noted)
    for name in candidates(score):
        RANKINGS[name](statistics, head, captured)
    assert products_of(score) == 4 * sum(looked_at)


@given(st.integers(1, 30_000), st.sampled_from([64, 3136, 1 << 20]), st.integers(0, 5))
def test_capture_is_bounded_and_repeatable(n: int, size: int, seed: int) -> None:
    indices = np.arange(n) * 3
    kept = chosen_for_capture(indices, size, seed)
    # 32 MB of float32 and 2,048 samples at most, one at least.
    assert len(kept) == min(n, 2048, max(1, (32 << 20) // 4 // size))
    assert np.isin(kept, indices).all() and (np.diff(kept) > 0).all()
    assert np.array_equal(kept, chosen_for_capture(indices, size, seed))


def test_positions_are_pooled() -> None:
    features = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert np.array_equal(pooled(features), features.mean(axis=1))
    assert pooled(features[:, 0]) is not None and pooled(features[:, 0]).shape == (2, 4)


def test_every_ranking_can_be_asked_for() -> None:
    """The option names them without importing what ranks."""
    _, score = HardenSetting.options()["score"]
    assert set(get_args(score.kind)) == {AUTO, *RANKINGS}
