"""Losses on independent labels: their value and slope against torch, and far from 0 in double."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.attacks import Target
from tests.support.classifiers import linear_classifier, target_of, threat_of
from tests.support.labelled import FEATURES, LABELS, Labelled

X = np.random.default_rng(1).random((20, FEATURES), np.float32)
Y = np.random.default_rng(2).integers(0, 2, (20, LABELS))


def softplus(t: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, t)


def labelled_identity(scale: float) -> Target:
    """Return a model whose logits are its inputs, times a number, with a sigmoid behind."""
    model = linear_classifier(np.eye(LABELS, dtype=np.float32) * scale, np.zeros(LABELS))
    model.graph.node[-1].op_type = "Sigmoid"
    del model.graph.node[-1].attribute[:]
    return target_of(model)


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr", "targeted-margin", "targeted-dlr"])
def test_value_and_gradient(loss: str) -> None:
    network = Labelled()
    z, signs = network.logits(X), 2 * Y - 1
    towards = np.arange(20) % LABELS
    rows = np.arange(20)
    against = np.concatenate([np.zeros((20, 1)), -signs * z], axis=1)
    ranked = -np.sort(-against, axis=1)
    if loss == "ce":
        expected = softplus(-signs * z).sum(axis=1)
        slope = 1 / (1 + np.exp(-z)) - Y
    else:
        one_hot = np.eye(LABELS)
        target = loss.startswith("targeted")
        label = towards if target else (signs * z).argmin(axis=1)
        top = -(signs * z)[rows, label]
        spread = np.ones(20)
        if loss == "dlr":
            spread = ranked[:, 0] - ranked[:, 2]
        elif loss == "targeted-dlr":
            spread = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
        expected = top / spread
        slope = -signs[rows, label][:, None] * one_hot[label] if "margin" in loss else None
    found = target_of(network.model()).evaluate(X, Y, loss, towards)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.logits, z, atol=1e-4)
    if slope is None:
        step, gradient = 1e-5, np.empty((20, FEATURES))
        for column in range(FEATURES):
            values = []
            for sign in (1, -1):
                moved = X.astype(np.float64)
                moved[:, column] += sign * step
                w = -signs * network.logits(moved)
                ranked = -np.sort(-np.concatenate([np.zeros((20, 1)), w], axis=1), axis=1)
                low = ranked[:, 2] if loss == "dlr" else (ranked[:, 2] + ranked[:, 3]) / 2
                values.append(w[rows, label] / (ranked[:, 0] - low))
            gradient[:, column] = (values[0] - values[1]) / (2 * step)
    else:
        gradient = network.pulled_back(X, slope)
    np.testing.assert_allclose(found.gradient, gradient, rtol=2e-3, atol=2e-3)


def test_what_torch_calls_binary_cross_entropy() -> None:
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    network = Labelled()
    z = torch.tensor(network.logits(X), requires_grad=True)
    y = torch.tensor(Y, dtype=torch.float64)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1)
    loss.sum().backward()
    found = target_of(network.model()).evaluate(X, Y)
    np.testing.assert_allclose(found.loss, loss.detach(), rtol=1e-5)
    gradient = network.pulled_back(X, z.grad.numpy())
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 20.0, 500.0])
def test_steps_go_on_however_sure_the_model_is(scale: float) -> None:
    """Where σ itself rounds to 0 in float32, the step still follows its direction."""
    target = labelled_identity(scale)
    x = np.array([[0.9, 0.5, 0.3, 0.2], [0.5, 0.9, 0.6, 0.8]], np.float32)
    eps = 0.05
    threat = threat_of(target, "l2", eps, box=None)
    moved = target.step(x, np.ones((2, 4), np.int64), x, threat, eps).x - x
    odds = scale * x.astype(np.float64)
    # σ(−odds), times a number for each sample.
    slope = -np.exp(odds.min(axis=1)[:, None] - np.logaddexp(0, odds))
    expected = eps * slope / np.linalg.norm(slope, axis=1)[:, None]
    np.testing.assert_allclose(moved, expected, atol=1e-6)
