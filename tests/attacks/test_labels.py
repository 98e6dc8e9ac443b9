"""Independent labels are attacked as what they are: a sample falls with one label of its own."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from cloakify.attacks import Apgd, ApgdDlr, ApgdT, Attack, FabT, Fgsm, Pgd, Square
from cloakify.graph.analysis.classifier_search import Wanted
from cloakify.graph.analysis.task import Task
from tests.support.classifiers import linear_classifier, target_of, threat_of
from tests.support.labelled import FEATURES, LABELS, Labelled

ATTACKS = [
    Fgsm(),
    Pgd(steps=5, restarts=2),
    Apgd(steps=8),
    Apgd(steps=8, stop_early=False),
    ApgdDlr(steps=8),
    ApgdT(steps=8),
    FabT(steps=8),
    Square(queries=60),
]
EPS = {"linf": 0.04, "l2": 0.1}
N = 60
X = np.random.default_rng(1).random((N, FEATURES), np.float32)
INDEX = np.arange(N)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_every_attack_keeps_to_the_ball_and_makes_labels_wrong(attack: Attack, norm: str) -> None:
    network = Labelled()
    target = target_of(network.model())
    y = network.labels(X)
    threat = threat_of(target, norm, EPS[norm])
    found = attack.run(target, X, y, INDEX, threat)
    assert (threat.distance(found, X) <= EPS[norm] * (1 + 1e-5)).all()
    assert found.min() >= 0
    assert found.max() <= 1
    right = (network.labels(found) == y).all(axis=1)
    np.testing.assert_array_equal(target.correct(found, y), right)
    # What flips no label by a random move of that size, by brute force.
    rng = np.random.default_rng(0)
    random = np.ones(N, bool)
    for _ in range(20):
        move = rng.choice([-1.0, 1.0], X.shape) * EPS[norm]
        if norm == "l2":
            move /= np.sqrt(FEATURES)
        random &= (network.labels(np.clip(X + move, 0, 1)) == y).all(axis=1)
    assert right.sum() < random.sum()


def test_fgsm_follows_the_sum_of_the_labels_losses() -> None:
    network = Labelled()
    target = target_of(network.model())
    y = np.random.default_rng(2).integers(0, 2, (N, LABELS))
    found = Fgsm().run(target, X, y, INDEX, threat_of(target, "linf", 0.05, box=None))
    slope = network.pulled_back(X, 1 / (1 + np.exp(-network.logits(X))) - y)
    np.testing.assert_allclose(found, X + 0.05 * np.sign(slope), atol=1e-6)


def test_the_targeted_attack_tries_each_label() -> None:
    """No less falls than by one attack on each label alone."""
    network = Labelled()
    target = target_of(network.model())
    y = network.labels(X)
    threat = threat_of(target, "linf", EPS["linf"])
    right = target.correct(ApgdT(steps=20).run(target, X, y, INDEX, threat), y)
    alone = np.ones(N, bool)
    for label in range(LABELS):
        one = Labelled()
        one.second, one.bias = network.second[:, label : label + 1], network.bias[label : label + 1]
        binary = target_of(one_label(one))
        own = y[:, label]
        alone &= binary.correct(Apgd(steps=20).run(binary, X, own, INDEX, threat), own)
    assert right.sum() <= alone.sum() + 1


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_losses_choose_among_classes_or_among_labels_and_none(classes: int) -> None:
    """Those that differ by a quotient need three, targeted four, and are margins below that."""
    weight = np.random.default_rng(0).standard_normal((FEATURES, classes)).astype(np.float32)
    target = target_of(linear_classifier(weight, np.zeros(classes, np.float32)))
    assert target.num_choices == classes
    labels = target_of(
        linear_classifier(weight, np.zeros(classes, np.float32)),
        wanted=Wanted(task=Task.MULTILABEL),
    )
    assert labels.num_choices == classes + 1


def one_label(network: Labelled) -> ModelProto:
    """Return a network with only one of the labels, as a model of two classes."""
    model = network.model()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    return model


@pytest.mark.parametrize("half", [(0.5,), (0.3,), (0.2, 0.4, 0.6, 0.8)])
def test_labels_hold_from_the_models_own_bounds_on(half: tuple[float, ...]) -> None:
    network = Labelled()
    target = target_of(network.model("answers by label", half))
    probability = 1 / (1 + np.exp(-network.logits(X)))
    y = (probability > np.array(half)).astype(np.int64)
    assert target.correct(X, y).all()
    np.testing.assert_array_equal((target.logits(X) > 0).astype(np.int64), y)
    assert not target.logits_and_overruled(X)[1].any()
    y[:, 0] = 1 - y[:, 0]
    assert not target.correct(X, y).any()


def test_bare_logits_are_labels_where_they_are_said_to_be() -> None:
    network = Labelled()
    said = Wanted(task=Task.MULTILABEL, threshold=0.7)
    target = target_of(network.model("logits"), wanted=said)
    probability = 1 / (1 + np.exp(-network.logits(X)))
    y = (probability > 0.7).astype(np.int64)
    assert target.independent
    assert target.correct(X, y).all()


def test_what_the_whole_model_answers_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support import labelled

    nodes = "p = Sigmoid (z)  s = Mul (p, p)  y = Greater (s, half)"
    monkeypatch.setitem(labelled.ENDINGS, "squared", (f"bool[N, {LABELS}] y", nodes))
    network = Labelled()
    target = target_of(network.model("squared"))
    x = np.random.default_rng(2).random((400, FEATURES), np.float32)
    probability = 1 / (1 + np.exp(-network.logits(x)))
    between = ((probability > 0.5) & (probability < np.sqrt(0.5))).any(axis=1)
    assert between.any()
    np.testing.assert_array_equal(target.logits_and_overruled(x)[1], between)
