"""The momentum method against its equations, written out."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.attacks import MiFgsm, Pgd
from tests.support.classifiers import mlp_classifier, target_of, threat_of

EPS = {"linf": 0.1, "l2": 0.3}


def by_hand(target, threat, x, y, steps: int, step_size: float, momentum: float) -> np.ndarray:
    """Dong et al., arXiv 1710.06081, equations 6 and 7; for l2, v/‖v‖₂ for the sign."""
    velocity, moved = np.zeros_like(x), x
    for _ in range(steps):
        gradient = target.evaluate(moved, y).gradient
        velocity = momentum * velocity + gradient / np.abs(gradient).sum(axis=1, keepdims=True)
        way = np.sign(velocity)
        if threat.norm == "l2":
            # What stands at a bound and would leave the box has no share in the length.
            stuck = (moved <= threat.lower) & (velocity < 0) | (moved >= threat.upper) & (
                velocity > 0
            )
            way = np.where(stuck, 0, velocity)
            way = way / np.linalg.norm(way, axis=1, keepdims=True)
        moved = threat.project((moved + step_size * way).astype(np.float32), x)
    return moved


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("momentum", [0.0, 0.7, 1.0])
def test_equals_its_equations(norm, momentum):
    target = target_of(mlp_classifier(3, features=10, classes=4))
    x = np.random.default_rng(0).uniform(0.05, 0.95, (7, 10)).astype(np.float32)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, norm, EPS[norm])
    settings = {"steps": 6, "step_size": EPS[norm] / 4, "momentum": momentum}
    result = MiFgsm(**settings, stop_early=False).run(target, x, y, np.arange(7), threat)
    np.testing.assert_allclose(result, by_hand(target, threat, x, y, **settings), atol=2e-5)


@pytest.mark.parametrize(("attack", "travel"), [(MiFgsm(steps=4), 1), (Pgd(steps=4), 2.5)])
def test_step_size_left_out_is_a_share_of_the_budget(attack, travel):
    target = target_of(mlp_classifier(3, features=10, classes=4))
    x = np.random.default_rng(0).uniform(0.3, 0.7, (7, 10)).astype(np.float32)
    y, index = target.logits(x).argmax(axis=1), np.arange(7)
    threat = threat_of(target, "linf", 0.05)
    said = type(attack)(steps=4, step_size=travel * 0.05 / 4).run(target, x, y, index, threat)
    assert attack.run(target, x, y, index, threat).tobytes() == said.tobytes()
