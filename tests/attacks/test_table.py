"""Every attack on every sample model in both norms: what holds for all of them.

The pooled model, other budgets and small models of known optimum are in the other files.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cloakify.attacks import (
    Apgd,
    ApgdDlr,
    ApgdMulti,
    ApgdT,
    FabT,
    Fgsm,
    MiFgsm,
    Pgd,
    Square,
    Target,
)
from cloakify.attacks.registry import NAMES
from cloakify.onnxfile import open_model
from tests.support.classifiers import target_of, threat_of

ROOT = Path(__file__).parents[2] / "sample_models"
ATTACKS = [
    Fgsm(),
    Pgd(steps=5),
    MiFgsm(steps=5),
    Apgd(steps=6),
    ApgdDlr(steps=6),
    ApgdMulti(steps=10),
    ApgdT(steps=4, num_targets=2),
    FabT(steps=4, num_targets=2),
    Square(queries=12),
]
# Where short attacks fool some of the samples and leave others.
EPS = {
    ("keras", "linf"): 8 / 255,
    ("keras", "l2"): 0.6,
    ("wide", "linf"): 5 / 255,
    ("wide", "l2"): 0.3,
    ("robust", "linf"): 14 / 255,
    ("robust", "l2"): 1.2,
}
# Tested by themselves: the latter is others in turn.
APART = {"apgd-bpda", "autoattack"}
each_model = pytest.mark.parametrize(("name", "norm"), EPS, ids=lambda part: part)


@cache
def opened(name: str, batch_size: int) -> Target:
    return target_of(open_model(ROOT / f"fashion_{name}.onnx").load_weights(), batch_size)


def samples(name: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples from all over the test set, as the model takes them."""
    with np.load(ROOT / "test.npz", allow_pickle=False) as arrays:
        index = np.arange(0, 2000, 2000 // count)[:count]
        x, y = arrays["x"][index], arrays["y"][index]
    return x.reshape(count, *opened(name, 8).spec.sample_shape), y, index


def test_every_attack_is_tried() -> None:
    assert sorted([attack.name for attack in ATTACKS]) == sorted({*NAMES} - APART)


@each_model
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_budget_box_seed_and_batch(attack, name, norm):
    x, y, index = samples(name, 8)
    target, other = opened(name, 8), opened(name, 3)
    threat = threat_of(target, norm, EPS[name, norm])
    found = attack.run(target, x, y, index, threat)
    assert found.dtype == np.float32 and found.shape == x.shape
    moved = (found.astype(np.float64) - x).reshape(len(x), -1)
    length = np.abs(moved).max(axis=1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    # Pixels are rounded to float32: 6e-8 near 1, and that of 784 of them in l2.
    slack = 6e-8 if norm == "linf" else 6e-8 * 28
    assert length.max() <= EPS[name, norm] * (1 + 1e-6) + slack
    assert found.min() >= 0 and found.max() <= 1
    assert attack.run(target, x, y, index, threat).tobytes() == found.tobytes()
    order = np.random.default_rng(0).permutation(8)
    again = np.empty_like(found)
    again[order] = attack.run(other, x[order], y[order], index[order], threat)
    np.testing.assert_array_equal(target.correct(again, y), target.correct(found, y))


@each_model
def test_never_weaker_than_the_baseline(name, norm):
    """By the loss reached for those that ascend it, by the samples left for the others."""
    x, y, index = samples(name, 20)
    target = opened(name, 20)
    threat = threat_of(target, norm, EPS[name, norm])

    def run(attack):
        found = attack.run(target, x, y, index, threat)
        return target.evaluate(found, y).loss.mean(), target.correct(found, y).mean()

    fgsm, pgd = run(Fgsm()), run(Pgd(steps=10, stop_early=False))
    apgd = run(Apgd(steps=20, stop_early=False))
    noise = 1.5 / len(x)
    assert target.evaluate(x, y).loss.mean() < fgsm[0] < pgd[0] < apgd[0] * 1.03
    assert target.correct(x, y).mean() > fgsm[1] >= pgd[1] - noise
    assert pgd[1] >= apgd[1] - noise
    left = [run(attack(steps=15, num_targets=3))[1] for attack in (ApgdT, FabT)]
    assert max(left) <= fgsm[1] + noise and min(left) <= apgd[1] + noise
    assert run(Square(queries=60))[1] <= target.correct(x, y).mean()
