"""What every attack promises: ball and box, strength, and the same result in every batch."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.attacks import (
    Apgd,
    ApgdDlr,
    ApgdT,
    AutoAttack,
    FabT,
    Fgsm,
    Pgd,
    Square,
)
from cloakify.data import Preprocessing
from tests.support.classifiers import mlp_classifier, target_of, threat_of

ATTACKS = [
    Fgsm(),
    Pgd(steps=5, restarts=2),
    Pgd(steps=5, momentum=0.9, stop_early=False),
    Apgd(steps=8, restarts=2),
    Apgd(steps=8, stop_early=False),
    ApgdDlr(steps=8),
    ApgdT(steps=5, num_targets=3),
    ApgdT(steps=5, num_targets=2, restarts=2, stop_early=False),
    Square(queries=30),
    FabT(steps=5, num_targets=3),
]
EPS = {"linf": 6 / 255, "l2": 0.4}
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=repr)
each_norm = pytest.mark.parametrize("norm", EPS)


@each_attack
@each_norm
def test_stays_within_ball_and_box(pooled, few, attack, norm):
    x, y, index = few
    threat = threat_of(pooled, norm, EPS[norm])
    found = attack.run(pooled, x, y, index, threat)
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    # A pixel near 1 has a rounding error of 6e-8.
    assert threat.distance(found, x).max() <= EPS[norm] * (1 + 1e-5) + 1e-7
    assert found.min() >= 0 and found.max() <= 1


@each_attack
@each_norm
def test_budget_and_box_follow_the_preprocessing(attack, norm):
    target = target_of(mlp_classifier(1, features=10, classes=5))
    preprocessing = Preprocessing(scale=255.0, mean=(100.0,), std=(50.0,))
    rng = np.random.default_rng(0)
    pixels = rng.random((9, 10), np.float32)
    x = preprocessing.to_model(pixels, None)
    y, index = target.logits(x).argmax(axis=1), np.arange(9)
    threat = threat_of(target, norm, 0.1, preprocessing=preprocessing)
    found = attack.run(target, x, y, index, threat)
    back = (found.astype(np.float64) * 50 + 100) / 255
    moved = back - pixels
    length = np.abs(moved).max(axis=1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert length.max() <= 0.1 * (1 + 1e-4)
    assert back.min() >= -1e-6 and back.max() <= 1 + 1e-6


@each_attack
def test_same_seed_same_bytes(pooled, few, attack):
    threat = threat_of(pooled, "linf", 4 / 255)
    first, second = (attack.run(pooled, *few, threat) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize(
    "attack",
    [
        Pgd(steps=4, restarts=2),
        Apgd(steps=6, restarts=2),
        ApgdT(steps=4, num_targets=3),
        Square(queries=40),
        FabT(steps=4, num_targets=3),
    ],
    ids=repr,
)
def test_neither_batch_nor_order_matters(attack, norm):
    model = mlp_classifier(2, features=12, classes=5)
    rng = np.random.default_rng(1)
    x, index = rng.random((70, 12), np.float32), rng.permutation(1000)[:70]
    y = target_of(model).logits(x).argmax(axis=1)
    y[::9] = (y[::9] + 1) % 5
    verdicts = []
    for batch_size in (1, 7, 64):
        target = target_of(model, batch_size)
        order = rng.permutation(70)
        threat = threat_of(target, norm, 0.06)
        found = np.empty_like(x)
        found[order] = attack.run(target, x[order], y[order], index[order], threat)
        verdicts.append(target.correct(found, y))
    assert 0 < verdicts[0].sum() < 70
    assert (verdicts[0] == verdicts[1]).all() and (verdicts[0] == verdicts[2]).all()


@each_norm
def test_the_stronger_attack_reaches_the_higher_loss(pooled, few, norm):
    x, y, index = few
    threat = threat_of(pooled, norm, EPS[norm])

    def loss(attack):
        return pooled.evaluate(attack.run(pooled, x, y, index, threat), y).loss.mean()

    fgsm, pgd = loss(Fgsm()), loss(Pgd(steps=10, stop_early=False))
    apgd = loss(Apgd(steps=20, stop_early=False))
    assert pooled.evaluate(x, y).loss.mean() < fgsm < pgd < apgd * 1.02


@pytest.mark.parametrize(
    "attack", [a for a in ATTACKS if getattr(a, "stop_early", True) and a.name != "fgsm"], ids=repr
)
def test_misclassified_samples_are_left_alone_or_stay_wrong(pooled, few, attack):
    x, _, index = few
    wrong = (pooled.logits(x).argmax(axis=1) + 1) % 10
    found = attack.run(pooled, x, wrong, index, threat_of(pooled, "linf", 4 / 255))
    assert not pooled.correct(found, wrong).any()
    if attack.name != "pgd":
        assert found.tobytes() == x.tobytes()


@each_norm
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes, norm):
    target = target_of(mlp_classifier(4, features=6, classes=classes))
    x = np.random.default_rng(0).random((20, 6), np.float32)
    y, index = target.logits(x).argmax(axis=1), np.arange(20)
    threat = threat_of(target, norm, 0.3)
    attacks = [Apgd(), ApgdDlr(), ApgdT(), FabT(), Square(queries=200)]
    left = [target.correct(a.run(target, x, y, index, threat), y).mean() for a in attacks]
    assert max(left[:4]) - min(left[:4]) <= 0.1 and left[0] < 1
    assert left[4] >= min(left[:4])


def test_fixed_batch_size(samples, few):
    model = mlp_classifier(5, features=8, classes=4)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    target = target_of(model, batch_size=64)
    assert target.batch_size == 3
    x = np.random.default_rng(0).random((10, 8), np.float32)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, "linf", 0.1)
    for attack in ATTACKS:
        assert attack.run(target, x, y, np.arange(10), threat).shape == x.shape


def test_repr_lists_the_settings():
    assert repr(Pgd(steps=3)).startswith("Pgd(steps=3, step_size=None, restarts=1")
    assert repr(AutoAttack(seed=2)) == "AutoAttack(seed=2)"
