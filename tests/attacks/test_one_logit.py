"""One logit is attacked as two: like its twin with the logits 0 and z, and by its own gradient."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.attacks import Apgd, ApgdDlr, ApgdT, Attack, FabT, Fgsm, Pgd, Square
from tests.support.classifiers import target_of, threat_of
from tests.support.one_logit import ENDINGS, FEATURES, OneLogit

ATTACKS = [
    Fgsm(),
    Pgd(steps=5),
    Apgd(steps=8),
    Apgd(steps=8, stop_early=False),
    ApgdDlr(steps=8),
    ApgdT(steps=5),
    FabT(steps=5),
    Square(queries=30),
]
EPS = {"linf": 0.05, "l2": 0.2}
X = np.random.default_rng(1).random((40, FEATURES), np.float32)
INDEX = np.arange(40)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_every_attack_finds_what_it_finds_on_two_logits(attack: Attack, norm: str) -> None:
    network = OneLogit()
    one, two = target_of(network.model()), target_of(network.twin())
    y = (network.logit(X) > 0).astype(np.int64)
    threat = threat_of(one, norm, EPS[norm])
    found = attack.run(one, X, y, INDEX, threat)
    np.testing.assert_allclose(found, attack.run(two, X, y, INDEX, threat), atol=1e-5)
    assert (found != X).any()
    np.testing.assert_array_equal(one.correct(found, y), two.correct(found, y))


@pytest.mark.parametrize("ending", ["squeezed sigmoid", "answer", "both"])
def test_fgsm_goes_where_the_logit_says(ending: str) -> None:
    network = OneLogit()
    target = target_of(network.model(ending))
    y = np.arange(40) % 2
    found = Fgsm().run(target, X, y, INDEX, threat_of(target, "linf", 0.05, box=None))
    # Away from the label: a larger logit for class 0, a smaller one for class 1.
    uphill = np.sign(network.slope(X)) * np.where(y == 0, 1, -1)[:, None]
    np.testing.assert_allclose(found, X + 0.05 * uphill, atol=1e-6)


def test_a_threshold_moves_what_counts_as_right() -> None:
    network = OneLogit()
    target = target_of(network.model("answer", 0.3))
    probability = 1 / (1 + np.exp(-network.logit(X)))
    ones = np.ones(40, np.int64)
    np.testing.assert_array_equal(target.correct(X, ones), probability > 0.3)
    np.testing.assert_array_equal(target.correct(X, 0 * ones), probability < 0.3)
    assert ((probability > 0.3) & (probability < 0.5)).any()


def test_what_the_whole_model_answers_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    network = OneLogit()
    nodes = "p = Sigmoid (z)  s = Mul (p, p)  y = Greater (s, half)"
    monkeypatch.setitem(ENDINGS, "squared", ("bool[N, 1] y", nodes))
    target = target_of(network.model("squared"))
    x = np.random.default_rng(2).random((500, FEATURES), np.float32)
    probability = 1 / (1 + np.exp(-network.logit(x)))
    between = (probability > 0.5) & (probability < np.sqrt(0.5))
    assert between.any()
    np.testing.assert_array_equal(target.logits_and_overruled(x)[1], between)
    right = target.correct(x, np.ones(500, np.int64))
    np.testing.assert_array_equal(right, probability > np.sqrt(0.5))
