"""Target classes by the distance of their border, against a recomputation one by one."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.attacks import ApgdT
from cloakify.attacks.target_order import steepest_rivals
from cloakify.data import Preprocessing
from tests.support.classifiers import linear_classifier, mlp_classifier, target_of, threat_of

CLASSES, FEATURES = 12, 7
DUAL = {"linf": 1, "l2": 2}


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_borders_are_ranked_as_by_finite_differences(norm: str, count: int) -> None:
    """Of the classes of the largest logits; data units differ from channel to channel."""
    rng = np.random.default_rng(3)
    target = target_of(mlp_classifier(1, FEATURES, CLASSES))
    threat = threat_of(target, norm, 0.1, None, Preprocessing(scale=4.0))
    x = rng.uniform(0, 1, (20, FEATURES)).astype(np.float32)
    logits = target.logits(x)
    y = logits.argmax(axis=1)
    found = steepest_rivals(target, x, y, logits, threat, count)
    assert found.shape == (20, count)
    step = 1e-2
    for row in range(len(x)):
        moved = np.concatenate([x[row] + step * np.eye(FEATURES), x[row] - step * np.eye(FEATURES)])
        sides = target.logits(moved.astype(np.float32)).astype(np.float64)
        jacobian = (sides[:FEATURES] - sides[FEATURES:]) / (2 * step) * 4.0
        largest = np.argsort(-logits[row], kind="stable")[1 : 1 + 3 * count]
        distance = {
            int(other): float(logits[row, y[row]] - logits[row, other])
            / np.linalg.norm(jacobian[:, other] - jacobian[:, y[row]], DUAL[norm])
            for other in largest
        }
        expected = sorted(distance, key=distance.__getitem__)[:count]
        for one, other in zip(found[row].tolist(), expected, strict=True):
            assert distance[one] == pytest.approx(distance[other], rel=2e-2)


@pytest.mark.parametrize("bias", [2, 4], ids=["ahead", "crossed"])
def test_a_border_that_no_move_reaches_comes_last(bias: float) -> None:
    weight = np.zeros((3, 5), np.float32)
    weight[0, 1:4] = 0.1, 1.0, 0.5
    target = target_of(linear_classifier(weight, np.float32([3, 0, 0, 0, bias])))
    x = np.zeros((1, 3), np.float32)
    order = steepest_rivals(
        target, x, np.array([0]), target.logits(x), threat_of(target, "linf", 0.1, None), 4
    )
    # Class 4 has the largest logit of the others, or of all, and no slope against the label's.
    assert order.tolist() == [[2, 3, 1, 4]]


def test_one_target_by_slope_finds_what_one_by_logit_misses() -> None:
    """On a linear model the nearest border is known, and the other way leads nowhere."""
    weight = np.zeros((9, 3), np.float32)
    weight[0, 1], weight[1:, 2] = 0.1, 0.6
    target = target_of(linear_classifier(weight, np.float32([1, 0.5, 0])))
    x, y, index = np.zeros((4, 9), np.float32), np.zeros(4, np.int64), np.arange(4)
    threat = threat_of(target, "linf", 0.3, None)
    left = [
        target.correct(
            ApgdT(steps=10, num_targets=1, by_slope=by_slope).run(target, x, y, index, threat), y
        )
        for by_slope in (False, True)
    ]
    assert left[0].all() and not left[1].any()
