"""Tuning mends a fragile model; it is deterministic, can be stopped, and goes on from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloakify.attacks import make_threat
from cloakify.attacks.threat import ThreatModel
from cloakify.data import Dataset, Preprocessing, open_data, split
from cloakify.errors import DataError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.inputs import find_input
from cloakify.masking.course import Course, Draw
from cloakify.masking.gated import GatedModel
from cloakify.masking.lesson import Learned, Lesson, attack_batch, learn
from cloakify.masking.optimiser import Kind, Parameters
from cloakify.masking.tuning import Outcome, StepReport, _guarded, tune
from cloakify.masking.tuning_file import load_state, save_state
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.masking.tuning_state import Checkpoint, GateMetrics, TuningState
from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Doubles
from cloakify.runtime import Device
from tests.support.fragile import EPS, fragile_model, write_fragile

PLAN = TuningPlan(steps=60, max_accuracy_drop=0.01, batch_size=32, rate=0.1, checks=3)


class Bench:
    """The fragile model with its data."""

    def __init__(
        self, folder: Path, batch_size: int = 32, *, shifts: bool = False, folds: int = 1
    ) -> None:
        model = fragile_model()
        _, data = write_fragile(folder)
        spec, found = find_input(model), find_classifier(model)
        self.dataset: Dataset = open_data(data, spec, Preprocessing())
        assert self.dataset.labels is not None
        self.fit = split(len(self.dataset), self.dataset.labels, 0).fit
        halves = (self.fit[::2], self.fit[1::2])
        self.folds = (self.fit,) if folds == 1 else (self.fit, *halves)
        self.threat: ThreatModel = make_threat("linf", EPS, spec, Preprocessing())
        sites = find_gate_sites(model, found.head, shifts=shifts)
        self.model = GatedModel(
            model, sites, spec, found.scores, (8,), Device("cpu"), batch_size, threads=1
        )
        self.lessons: list[Lesson] = []

    def parameters(self, kind: Kind = "positive") -> Parameters:
        (batch,) = self.dataset.batches(self.fit[:64], 64)
        return Parameters(kind, self.model.shift_units(batch.x))

    def evaluate(self, gates: Doubles) -> GateMetrics:
        """Count right answers of all samples, clean and after one step, with the first gates."""
        self.model.set(gates[0])
        (batch,) = self.dataset.batches(None, len(self.dataset))
        target = self.model.target
        moved = target.step(batch.x, batch.y, batch.x, self.threat, EPS).x
        robust = int(target.correct(moved, batch.y).sum())
        clean = int(target.correct(batch.x, batch.y).sum())
        return GateMetrics(len(batch.y), len(batch.y), clean, robust, robust, 0.0, 0.0)

    def tune(self, plan: TuningPlan = PLAN, **more: object) -> Outcome:
        parameters = self.parameters(plan.kind)
        given = {"evaluate": lambda theta: self.evaluate(parameters.values(theta)), **more}
        return tune(
            self.learning(plan),
            Course(self.folds, plan),
            self.threat,
            plan,
            parameters,
            **given,  # type: ignore[arg-type]
        )

    def learning(self, plan: TuningPlan) -> Callable[[Lesson, Draw | None], Learned]:
        """Return what does what steps ask for, and notes it."""

        def learned(lesson: Lesson, upcoming: Draw | None) -> Learned:
            self.lessons.append(lesson)
            batch = self.dataset.batch(lesson.draw.samples)
            return learn(self.model, lesson, batch, self.threat, plan, self.model.target.batch_size)

        return learned


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("kind", ["positive", "binary"])
def test_tuning_mends_a_fragile_model(bench: Bench, kind: str) -> None:
    plan = TuningPlan(
        steps=60,
        batch_size=32,
        rate=0.1,
        checks=3,
        max_accuracy_drop=0.2,
        kind=kind,  # type: ignore[arg-type]
    )
    outcome = bench.tune(plan)
    before, after = outcome.state.checkpoints[0].metrics, outcome.state.best.metrics
    assert before.clean == before.count and before.robust == 0
    assert after.robust >= 0.8 * after.count
    (gates,) = bench.parameters(plan.kind).values(outcome.state.best.theta)
    outputs, _ = bench.model.split(gates)
    assert outputs[0] > 2 * outputs[1:].max()
    if kind == "binary":
        assert set(gates.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("mixtures", [0, 4])
def test_same_seed_same_gates(tmp_path: Path, mixtures: int) -> None:
    first, second, other = (
        Bench(tmp_path)
        .tune(TuningPlan(**{**vars(PLAN), "seed": seed, "mixtures": mixtures}))
        .state.theta
        for seed in (0, 0, 1)
    )
    assert first.tobytes() == second.tobytes() != other.tobytes()


def test_shifts_are_measured_by_what_they_are_added_to(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 7, shifts=True)
    (batch,) = bench.dataset.batches(np.arange(30), 30)
    units = bench.model.shift_units(batch.x)
    hidden = batch.x.astype(np.float64) - 0.5
    assert units[:8].tolist() == [0] * 8
    np.testing.assert_allclose(units[8:], np.sqrt(np.square(hidden).mean()), rtol=1e-6)
    assert bench.model.shift_units(np.full_like(batch.x, 0.5))[8] == 1


def test_gradient_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    found = []
    for size in (7, 32):
        bench = Bench(tmp_path, size)
        (batch,) = bench.dataset.batches(np.arange(30), 30)
        soft_labels = np.eye(2, dtype=np.float32)[batch.y] / 30
        found.append(bench.model.gradient(batch.x, soft_labels))
    np.testing.assert_allclose(found[0].gradient, found[1].gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[0].logits, found[1].logits, rtol=1e-5)
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)


def test_interruption_keeps_the_best(bench: Bench) -> None:
    def interrupt(report: StepReport) -> None:
        if report.step == 45:
            raise KeyboardInterrupt

    outcome = bench.tune(report=interrupt)
    assert outcome.end == "interrupted"
    assert [point.step for point in outcome.state.checkpoints] == [0, 20, 40]


@pytest.mark.parametrize(
    ("mixtures", "shifts", "folds"), [(0, False, 1), (4, False, 3), (0, True, 3)]
)
def test_a_stopped_run_goes_on_from_its_file(
    tmp_path: Path, mixtures: int, shifts: bool, folds: int
) -> None:
    path = tmp_path / "state.npz"
    plan = TuningPlan(**{**vars(PLAN), "mixtures": mixtures})
    whole = Bench(tmp_path, shifts=shifts, folds=folds).tune(plan)

    def interrupt(report: StepReport) -> None:
        if report.step == 30:
            raise KeyboardInterrupt

    stopped = Bench(tmp_path, shifts=shifts, folds=folds)
    stopped.tune(plan, report=interrupt, keep=lambda state: save_state(state, path, "run"))
    rest = Bench(tmp_path, shifts=shifts, folds=folds).tune(
        plan, state=load_state(path, "run", whole.state.theta.shape)
    )
    assert rest.state.theta.tobytes() == whole.state.theta.tobytes()
    assert [point.step for point in rest.state.checkpoints] == [0, 20, 40, 60]
    with pytest.raises(DataError, match="of another run"):
        load_state(path, "other", (1, 2))
    path.write_bytes(b"no state")
    with pytest.raises(DataError, match="holds no state"):
        load_state(path, "run", (1, 2))


def test_folds_are_tuned_in_turns_each_on_its_own(tmp_path: Path) -> None:
    """Three of five steps are the first's, and the others share the rest."""
    plan = TuningPlan(**{**vars(PLAN), "steps": 25, "checks": 1, "warmup": 0.0, "rate": 0.0})
    every = Bench(tmp_path, folds=3)
    state = every.tune(plan).state
    assert [adam.count for adam in state.adams] == [15, 5, 5]
    assert len(every.lessons) == 25
    turns = [0, 0, 1, 0, 2] * 5
    for fold, indices in enumerate(every.folds):
        lessons = [each for each, turn in zip(every.lessons, turns, strict=False) if turn == fold]
        drawn = np.concatenate([lesson.draw.index for lesson in lessons])
        # Each sample once before any comes again.
        assert sorted(drawn[: len(indices)]) == sorted(indices)
        assert np.isin(drawn, indices).all()


def test_patience_ends_a_run_that_finds_nothing(bench: Bench) -> None:
    plan = TuningPlan(steps=60, max_accuracy_drop=0.01, batch_size=32, checks=6, patience=2)
    stuck = GateMetrics(10, 10, 10, 5, 5, 0, 0)
    outcome = bench.tune(plan, evaluate=lambda theta: stuck)
    assert (outcome.end, outcome.state.step) == ("patience", 20)


def state_of(*metrics: GateMetrics) -> TuningState:
    points = [Checkpoint(10 * k, np.array([[float(k)]]), one) for k, one in enumerate(metrics)]
    return TuningState(20, (Adam.at(np.array([9.0])),), checkpoints=tuple(points))


def test_catastrophic_overfitting_is_answered() -> None:
    answered = _guarded(
        state_of(GateMetrics(100, 100, 90, 60, 65, 0, 0), GateMetrics(100, 100, 90, 20, 85, 0, 0))
    )
    assert answered.attack_steps == 2
    assert answered.theta.tolist() == [[0.0]]


def test_a_weak_attack_is_made_stronger() -> None:
    stronger = _guarded(state_of(GateMetrics(100, 100, 90, 5, 30, 0, 0)))
    assert (stronger.attack_steps, stronger.theta.tolist()) == (2, [[9.0]])
    assert _guarded(_guarded(stronger)).attack_steps == 3
    noisy = state_of(
        GateMetrics(100, 100, 90, 60, 65, 0, 0), GateMetrics(100, 100, 90, 55, 65, 0, 0)
    )
    assert _guarded(noisy) is noisy


def test_two_steps_stay_in_the_ball(bench: Bench) -> None:
    (batch,) = bench.dataset.batches(np.arange(20), 20)
    for steps in (1, 2):
        x = attack_batch(bench.model, batch, bench.threat, PLAN, steps, 0)
        assert bench.threat.distance(x, batch.x).max() <= EPS + 1e-6
        assert bench.threat.distance(x, batch.x).min() > 0
