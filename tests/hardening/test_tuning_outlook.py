"""What tuning will take is reckoned as what it does take: samples are counted where they run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloakify.engine.local import LocalEngine
from cloakify.hardening.gate_method import tune_gates
from cloakify.hardening.tuning_outlook import TuningPace, measure_tuning, outlook_of_tuning
from cloakify.runtime import Session
from tests.hardening.gates import Gates


def _samples(value: Any) -> int:
    """Return how many samples a value holds; gates and labels have one dimension."""
    shape = value.shape if isinstance(value, np.ndarray) else value.shape()
    return shape[0] if len(shape) == 2 else 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many samples went through sessions with and without a gradient."""
    counts: Counter[str] = Counter()
    opening, running = Session.__init__, Session.run_on_device
    with_gradient = set()

    def opened(session: Session, *arguments: Any, **options: Any) -> None:
        opening(session, *arguments, **options)
        if options.get("both_ways"):
            with_gradient.add(session)

    def ran(session: Session, feeds: Any, *rest: Any) -> Any:
        kind = "both" if session in with_gradient else "forward"
        counts[kind] += max(map(_samples, feeds.values()))
        return running(session, feeds, *rest)

    monkeypatch.setattr(Session, "__init__", opened)
    monkeypatch.setattr(Session, "run_on_device", ran)
    return counts


@pytest.mark.parametrize("shifts", [False, True])
def test_what_is_reckoned_is_what_tuning_takes(
    tmp_path: Path, counted: Counter[str], shifts: bool
) -> None:
    # In batches of one nothing is filled up.
    gates = Gates(
        tmp_path, tune_steps=60, shifts=shifts, batch_size=1, max_accuracy_drop=0.2, samples=400
    )
    subject, setting = gates.subject, gates.setting
    splits = gates.experiment.splits()
    tune_gates(subject, LocalEngine(subject), setting, splits, lambda *_: None)
    for kind, pace in (("forward", TuningPace(1, 0, 0)), ("both", TuningPace(0, 1, 1))):
        _, reckoned = outlook_of_tuning(subject, setting, splits, pace)
        assert counted[kind] == pytest.approx(reckoned, rel=0.3)


def test_paces_are_those_of_single_samples(tmp_path: Path) -> None:
    gates = Gates(tmp_path, tune_steps=60)
    setting, splits = gates.setting, gates.experiment.splits()
    pace = measure_tuning(gates.subject, setting, splits)
    assert 0 < pace.forward < pace.forward + pace.attack + pace.gradient < 1
    task, more = outlook_of_tuning(gates.subject, setting, splits, pace)
    assert task == "60 steps of 64 samples tune gates"
    fewer = outlook_of_tuning(
        gates.subject, setting.replace(tune_steps=None, effort="quick"), splits, pace
    )
    assert fewer[0] == "430 steps of 64 samples tune gates" and fewer[1] > more
