"""The losses and their gradients against torch's autograd; formulas are in test_losses.py."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.graph.attack_steps.losses import LOSSES, TARGETED
from tests.support.classifiers import linear_classifier, target_of

LEAST_CLASSES = {"dlr": 3, "targeted-dlr": 4}


def identity_target(classes: int):
    """A classifier whose logits are its input, so that input gradients are the losses' own."""
    eye = np.eye(classes, dtype=np.float32)
    return target_of(linear_classifier(eye, np.zeros(classes, np.float32)), batch_size=8)


TARGETS = {classes: identity_target(classes) for classes in (2, 3, 4, 7)}


def drawn(loss: str, classes: int, seed: int, samples: int = 5):
    """Logits without near ties, labels, and targets that are not the labels."""
    rng = np.random.default_rng(seed)
    z = np.stack([rng.permutation(classes) for _ in range(samples)]) * 1.5
    z = (z + rng.uniform(-0.5, 0.5, z.shape)).astype(np.float32)
    y = rng.integers(classes, size=samples)
    return z, y, (y + rng.integers(1, classes, size=samples)) % classes


CASES = [
    (loss, classes)
    for loss in LOSSES
    for classes in TARGETS
    if classes >= LEAST_CLASSES.get(loss, 2)
]


@pytest.mark.parametrize(("loss", "classes"), CASES)
def test_loss_and_gradient_are_torchs(loss, classes):
    torch = pytest.importorskip("torch")
    z, y, t = drawn(loss, classes, seed=1)
    found = TARGETS[classes].evaluate(z, y, loss, t if loss in TARGETED else None)
    logits = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    lanes = torch.arange(len(z))
    ranked = logits.sort(dim=1, descending=True).values
    own = logits[lanes, y]
    rival = logits.masked_fill(torch.nn.functional.one_hot(torch.tensor(y), classes) > 0, -1e9)
    rival = rival.max(dim=1).values
    values = {
        "ce": lambda: torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="none"),
        "log-odds": lambda: (
            logits.masked_fill(
                torch.nn.functional.one_hot(torch.tensor(y), classes) > 0, -torch.inf
            ).logsumexp(dim=1)
            - own
        ),
        "margin": lambda: rival - own,
        "dlr": lambda: (rival - own) / (ranked[:, 0] - ranked[:, 2]),
        "targeted-margin": lambda: logits[lanes, t] - own,
        "targeted-dlr": lambda: (
            (logits[lanes, t] - own) / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2)
        ),
    }[loss]()
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    np.testing.assert_allclose(found.loss, values.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-4, atol=1e-5)


def test_equal_logits_give_finite_ratios():
    z, y = np.ones((3, 4), np.float32), np.arange(3)
    for loss in LOSSES:
        found = TARGETS[4].evaluate(z, y, loss, (y + 1) if loss in TARGETED else None)
        assert np.isfinite(found.loss).all(), loss
