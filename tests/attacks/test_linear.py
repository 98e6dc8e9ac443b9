"""Linear models, where optimum and nearest misclassified point are known in closed form."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cloakify.attacks import Apgd, ApgdDlr, ApgdT, FabT, Fgsm, Pgd, Square
from tests.support.classifiers import linear_classifier, target_of, threat_of

DUAL = {"linf": 1, "l2": 2}


@pytest.fixture(scope="module")
def linear():
    """A model of 4 classes in 9 dimensions, and 30 samples with their labels."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((9, 4)).astype(np.float32)
    bias = rng.standard_normal(4).astype(np.float32) * 0.1
    target = target_of(linear_classifier(weight, bias))
    x = rng.standard_normal((30, 9)).astype(np.float32)
    return target, weight.astype(np.float64), x, target.logits(x).argmax(axis=1)


def nearest(target, weight, x, y, norm):
    """The distance to the nearest decision boundary, without a box."""
    z = target.logits(x).astype(np.float64)
    found = np.full((len(x), weight.shape[1]), np.inf)
    for row, other in product(range(len(x)), range(weight.shape[1])):
        if other != y[row]:
            slope = np.linalg.norm(weight[:, other] - weight[:, y[row]], DUAL[norm])
            found[row, other] = (z[row, y[row]] - z[row, other]) / slope
    return found.min(axis=1)


@pytest.mark.parametrize("norm", DUAL)
def test_fab_finds_the_distance(linear, norm):
    target, weight, x, y = linear
    threat = threat_of(target, norm, 100, box=None)
    found = FabT(stop_early=False).nearest(target, x, y, threat)
    expected = nearest(target, weight, x, y, norm)
    np.testing.assert_allclose(threat.distance(found, x), expected, rtol=0.01)
    assert not target.correct(found, y).any()


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("attack", [ApgdT(), FabT(), ApgdDlr(), Apgd()], ids=lambda a: a.name)
def test_fools_just_when_the_boundary_is_within_reach(linear, norm, attack):
    target, weight, x, y = linear
    distance = nearest(target, weight, x, y, norm)
    eps = float(np.median(distance))
    found = attack.run(target, x, y, np.arange(30), threat_of(target, norm, eps, box=None))
    robust = target.correct(found, y)
    clear = np.abs(distance - eps) > 0.02 * eps
    assert robust[clear & (distance > eps)].all()
    # Untargeted losses may lead to another class than the nearest.
    assert not robust[clear & (distance < eps)].any() or attack.name in ("apgd", "apgd-dlr")


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize(
    "attack",
    [Fgsm(), Pgd(steps=60, step_size=0.02, stop_early=False), Apgd(stop_early=False, steps=20)],
    ids=lambda attack: attack.name,
)
def test_two_classes_have_one_optimum(norm, attack):
    """Where all is linear, one step of the whole budget is the best there is."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((6, 2)).astype(np.float32)
    target = target_of(linear_classifier(weight, np.zeros(2, np.float32)))
    x = rng.standard_normal((12, 6)).astype(np.float32)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, norm, 0.2, box=None)
    found = attack.run(target, x, y, np.arange(12), threat)
    slope = np.linalg.norm(weight[:, 0] - weight[:, 1].astype(np.float64), DUAL[norm])
    before = target.evaluate(x, y, "margin").loss
    np.testing.assert_allclose(
        target.evaluate(found, y, "margin").loss, before + 0.2 * slope, rtol=1e-3, atol=1e-4
    )


def test_square_finds_what_trying_all_corners_finds():
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((4, 3)).astype(np.float32)
    target = target_of(linear_classifier(weight, np.zeros(3, np.float32)))
    x = rng.random((40, 4), np.float32)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, "linf", 0.15)
    found = Square(queries=300).run(target, x, y, np.arange(40), threat)
    corners = np.array(list(product([-0.15, 0.15], repeat=4)), np.float32)
    robust = np.array(
        [
            target.correct(np.clip(sample + corners, 0, 1), np.full(16, label)).all()
            for sample, label in zip(x, y, strict=True)
        ]
    )
    assert 0 < robust.sum() < 40
    assert (target.correct(found, y) == robust).all()


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_other_number_types(kind):
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((5, 4))
    target = target_of(linear_classifier(weight, np.zeros(4), kind))
    x = rng.random((6, 5), np.float32)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, "linf", 0.5)
    for attack in (Fgsm(), Pgd(), Apgd(steps=20), ApgdT(steps=20), FabT(), Square(queries=50)):
        found = attack.run(target, x, y, np.arange(6), threat)
        assert found.dtype == np.float32
        assert target.correct(found, y).mean() < 0.7, attack
