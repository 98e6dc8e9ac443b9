"""Progress goes on between two calls, whatever takes long, and never from a stage that is over."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.experiment import steady as module
from cloakify.experiment.steady import steady
from tests.support.classifiers import linear_classifier, target_of

Told = list[tuple[str, int, int]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test turns."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_runs_of_a_model_are_signs_of_life(clock: list[float]) -> None:
    told: Told = []
    target = target_of(linear_classifier(np.ones((3, 2), np.float32), np.zeros(2, np.float32)))
    x = np.zeros((4, 3), np.float32)
    with steady(lambda *call: told.append(call)) as progress:
        progress("attacking", 1, 4)
        target.logits(x)
        assert told == [("attacking", 1, 4)]
        clock[0] += 1.5
        target.evaluate(x, np.zeros(4, np.int64))
        assert told[1:] == [("attacking · 2 runs", 1, 4)]
        clock[0] += 1.5
        target.logits(x)
        assert told[2:] == [("attacking · 3 runs", 1, 4)]
    clock[0] += 9
    target.logits(x)
    assert len(told) == 3


def test_no_stage_stands_at_its_end_while_the_model_runs(clock: list[float]) -> None:
    told: Told = []
    target = target_of(linear_classifier(np.ones((3, 2), np.float32), np.zeros(2, np.float32)))
    x = np.zeros((4, 3), np.float32)
    with steady(lambda *call: told.append(call)) as progress:
        for _ in range(2):
            clock[0] += 2
            target.logits(x)
        progress("mask sizes", 4, 4)
        for _ in range(2):
            clock[0] += 2
            target.logits(x)
    assert told == [
        ("starting · 1 runs", 0, 1),
        ("starting · 2 runs", 0, 1),
        ("mask sizes", 4, 4),
        ("work after mask sizes · 1 runs", 0, 1),
        ("work after mask sizes · 2 runs", 0, 1),
    ]
