"""One step of tuning: how far it attacks, what it wants to hear, and what clean samples weigh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import ThreatModel
from cloakify.attacks.passes import Step
from cloakify.data import Batch
from cloakify.masking.course import Course
from cloakify.masking.gated import GatedModel, GateGradient
from cloakify.masking.lesson import attack_batch
from cloakify.masking.optimiser import Parameters
from cloakify.masking.tuning import (
    BLIND,
    CLEAN_WEIGHT_RANGE,
    COLLAPSE,
    MOST_STEPS,
    _checked,
    _guarded,
    _step,
)
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.masking.tuning_state import Checkpoint, GateMetrics, TuningState
from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Array, Labels
from tests.masking.test_tuning import Bench
from tests.support.fragile import EPS

PLAN = TuningPlan(steps=20, max_accuracy_drop=0.01, batch_size=40, warmup=0.5, clean_share=0.25)
# A quarter of them, evenly.
LEFT = np.arange(40) % 4 == 3
TWO = Parameters("positive", np.zeros(2))


class Recorder:
    """Stands before a gated model and notes what gradients are asked of it."""

    def __init__(self, model: GatedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Array, Array]] = []
        gradient: Callable[[Array, Array], GateGradient] = model.gradient

        def noted(x: Array, soft_labels: Array) -> GateGradient:
            self.calls.append((x, soft_labels))
            return gradient(x, soft_labels)

        monkeypatch.setattr(model, "gradient", noted)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, batch_size=40)


def state_at(bench: Bench, step: int, clean_weight: float = 1.0) -> TuningState:
    fresh = TuningState.fresh(bench.parameters())
    return TuningState(step, fresh.adams, clean_weight=clean_weight)


def step_of(bench: Bench, state: TuningState, plan: TuningPlan = PLAN) -> Batch:
    """Take a step; return its samples as they are."""
    course = Course([bench.fit], plan)
    _step(bench.learning(plan), course, bench.threat, plan, bench.parameters(), state)
    return bench.dataset.batch(bench.lessons[-1].draw.index)


@pytest.mark.parametrize("step", range(0, 20, 3))
def test_budget_rises_to_its_full_size_over_the_warm_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    seen = Recorder(bench.model, monkeypatch)
    batch = step_of(bench, state_at(bench, step))
    ((x, _),) = seen.calls
    moved = bench.threat.distance(x, batch.x)
    # A step of 1.25 ε from inside the ball ends on its surface, for one number of each sample.
    due = EPS * min(1.0, (step + 1) / 10)
    np.testing.assert_allclose(moved[~LEFT], due, rtol=1e-4)
    assert (moved[LEFT] == 0).all()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_steps_of_an_attack_share_its_length(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    sizes = []
    step = bench.model.target.step

    def noted(x: Array, y: Labels, clean: Array, threat: ThreatModel, size: float) -> Step:
        sizes.append(size)
        return step(x, y, clean, threat, size)

    monkeypatch.setattr(bench.model.target, "step", noted)
    (batch,) = bench.dataset.batches(np.arange(20), 20)
    attack_batch(bench.model, batch, bench.threat, replace(PLAN, step_ratio=0.8), steps, 0)
    # Each as long as makes the squares add up to that of a single step.
    assert len(sizes) == steps
    assert np.square(sizes).sum() == pytest.approx((0.8 * EPS) ** 2)


@pytest.mark.parametrize("clean_weight", [0.0, 0.3, 2.0])
def test_clean_samples_alone_are_weighted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clean_weight: float
) -> None:
    seen = Recorder(bench.model, monkeypatch)
    step_of(bench, state_at(bench, 0, clean_weight))
    ((_, soft_labels),) = seen.calls
    weight = soft_labels.sum(axis=1)
    assert weight.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(weight[~LEFT], weight[0], rtol=1e-5)
    np.testing.assert_allclose(weight[LEFT], clean_weight * weight[0], rtol=1e-5)


def test_answers_are_those_of_the_source_on_clean_samples(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Recorder(bench.model, monkeypatch)
    # Gates that are no longer 1 must not be what is asked.
    batch = step_of(bench, TuningState(5, (Adam.at(np.full(bench.model.count, 0.7)),)))
    ((_, soft_labels),) = seen.calls
    bench.model.set(bench.model.neutral)
    logits = bench.model.target.logits(batch.x).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        soft_labels / soft_labels.sum(axis=1, keepdims=True), shares, rtol=1e-4, atol=1e-7
    )


@given(
    weight=st.floats(*CLEAN_WEIGHT_RANGE),
    lost=st.floats(0, 500),
    drop=st.floats(0, 0.1),
)
def test_clean_weight_doubles_with_every_point_over_what_may_be_spent(
    weight: float, lost: float, drop: float
) -> None:
    def metrics(lost: float) -> GateMetrics:
        return GateMetrics(100, 500, 400, 50, 50, lost, 0)

    plan = replace(PLAN, max_accuracy_drop=drop)
    first = Checkpoint(0, np.zeros((1, 2)), metrics(0))
    state = TuningState(10, TuningState.fresh(TWO).adams, clean_weight=weight, checkpoints=(first,))
    checked = _checked(state, plan, lambda theta: metrics(lost))
    points_over = 100 * (lost / 500 - drop)
    low, high = CLEAN_WEIGHT_RANGE
    assert checked.clean_weight == pytest.approx(min(max(weight * 2**points_over, low), high))
    # The first check is of gates of 1, which cost nothing.
    fresh = TuningState(0, state.adams, clean_weight=weight)
    assert _checked(fresh, plan, lambda theta: metrics(lost)).clean_weight == weight


@given(
    count=st.integers(10, 1000),
    best=st.floats(0, 1),
    last=st.floats(0, 1),
    gap=st.floats(0, 1),
    attack_steps=st.integers(1, MOST_STEPS),
)
def test_one_step_more_where_one_says_too_little(
    count: int, best: float, last: float, gap: float, attack_steps: int
) -> None:
    def point(step: int, robust: int, single: int) -> Checkpoint:
        metrics = GateMetrics(count, count, count, robust, single, 0, 0)
        return Checkpoint(step, np.array([[float(step)]]), metrics)

    robust = [int(best * count), int(last * count)]
    single = robust[1] + int(gap * (count - robust[1]))
    points = (point(1, robust[0], robust[0]), point(2, robust[1], single))
    state = TuningState(20, (Adam.at(np.array([9.0])),), attack_steps, checkpoints=points)
    after = _guarded(state)
    misled = single - robust[1] > BLIND * count and attack_steps < MOST_STEPS
    assert after.attack_steps == attack_steps + misled
    collapsed = misled and robust[0] - robust[1] > COLLAPSE * count
    assert after.theta.tolist() == ([[1.0]] if collapsed else [[9.0]])
    assert after.checkpoints == points
