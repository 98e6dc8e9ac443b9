"""Tune gates through the whole network, choose among what was tried, and make the model of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from cloakify.attacks import Attack, ThreatModel
from cloakify.data import Splits
from cloakify.engine.engine import Engine
from cloakify.errors import GateError
from cloakify.experiment.experiment import Progress
from cloakify.experiment.stage_times import StageTimes
from cloakify.experiment.subject import Edit, Subject
from cloakify.graph.analysis.gate_sites import GateSite
from cloakify.graph.edit.fold import fold_gates, settle_gates
from cloakify.graph.edit.gates import insert_gates
from cloakify.hardening.candidate import (
    HardenedCandidate,
    check_hardened,
    metadata,
    proof_samples,
    refuse,
)
from cloakify.hardening.gate_evaluator import GateEvaluator
from cloakify.hardening.gate_layers import settled, sites_for
from cloakify.hardening.gate_tasks import GateWork
from cloakify.hardening.tuning_plan import folds_of, make_plan
from cloakify.masking.course import Course
from cloakify.masking.gate_choice import GateChoice, choose_gates
from cloakify.masking.gated import channels_of, split_gates
from cloakify.masking.optimiser import Parameters
from cloakify.masking.tuning import Outcome, StepReport, tune
from cloakify.masking.tuning_file import load_state, save_state
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.masking.tuning_state import GateMetrics, TuningState
from cloakify.numeric.arrays import Array
from cloakify.printable import in_percent
from cloakify.report.records import AttackInfo, MaskInfo, TuningInfo
from cloakify.settings import HardenSetting
from cloakify.verification.gate_edit import (
    SHIFTS,
    UNLABELLED,
    gate_facts,
    gate_faults,
    gate_runtime_faults,
    scaled_names,
)


@dataclass(frozen=True)
class TunedGates:
    """What a tuning run ends with.

    Attributes
    ----------
    sites, gates
        The gated layers and the factors or shifts of each, [channels], settled.
    choice
        How they fared, and which checkpoint they are.
    outcome
        How the run ended.
    fit
        How they fare on samples of the fit split.
    plan
        How they were tuned.
    """

    sites: tuple[GateSite, ...]
    gates: tuple[Array, ...]
    choice: GateChoice
    outcome: Outcome
    fit: GateMetrics
    plan: TuningPlan

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should be told of the run."""
        state, choice = self.outcome.state, self.choice
        layers = len({site.output for site in self.sites})
        told = [
            f"tuned {self._numbers} on {layers} layers; "
            f"under PGD on samples learned from {in_percent(self.fit.robust / self.fit.count)}, "
            f"on others {in_percent(choice.metrics.robust / choice.metrics.count)} "
            f"(before {in_percent(choice.before.robust / choice.before.count)})"
        ]
        if self.outcome.end == "interrupted":
            told.append(f"interrupted after {state.step} steps; the best gates so far are kept")
        if state.attack_steps > self.plan.attack_steps:
            told.append(
                "gates that withstand a step of the attack fall to PGD: tuned on "
                f"{state.attack_steps} steps"
            )
        if choice.strength < 1:
            told.append(f"gates drawn back to strength {choice.strength:g} to keep clean accuracy")
        elif choice.strength > 1:
            told.append(f"gates taken to strength {choice.strength:g}, as clean accuracy allows")
        return tuple(told)

    @property
    def _numbers(self) -> str:
        gates, shifts = (
            sum(site.channels for site in self.sites if site.adds == adds) for adds in (False, True)
        )
        return f"{gates} gates and {shifts} shifts" if shifts else f"{gates} gates"


def find_gate_candidate(
    subject: Subject,
    engine: Engine[Subject],
    setting: HardenSetting,
    splits: Splits,
    attack: Attack,
    clock: StageTimes,
    progress: Progress,
) -> HardenedCandidate:
    """Tune gates, put them in, and prove that they are the only change.

    Raises
    ------
    CloakifyError
        As :func:`tune_gates`; and ModelError where the proof fails.
    """
    setting = settled(setting, subject.first)
    with clock.stage("tune"):
        tuned = tune_gates(subject, engine, setting, splits, progress)
    with clock.stage("prove"):
        return _make(subject, setting, splits, attack, tuned)


def tune_gates(
    subject: Subject,
    engine: Engine[Subject],
    setting: HardenSetting,
    splits: Splits,
    progress: Progress,
) -> TunedGates:
    """Tune the gates of the first classifier on some samples; choose on others.

    Samples without labels that the subject has are tuned on besides.

    Raises
    ------
    GateError
        No gates within the accuracy budget are worth having.
    UsageError
        No layer matches, or an option is out of its range.
    DataError
        The model hardly knows the clean samples, or the saved state is that of another run.
    """
    experiment, further = subject.first, subject.further
    extra = np.empty(0, np.int64) if further is None else further.indices
    plan = make_plan(setting, len(splits.fit) + len(extra))
    sites = sites_for(experiment.classifier.file.outline, experiment, setting)
    work = GateWork(subject, engine, sites, plan)
    saved = _Saved(setting.tuning.state, _name_of_run(subject, setting, plan))
    units = work.units(np.sort(splits.fit[: plan.batch_size]))
    # Gates of 0 or 1 have a threshold each.
    channels = channels_of(sites) if plan.kind == "positive" else None
    parameters = Parameters(plan.kind, units, channels, plan.own_rate)
    folds, held_out = folds_of(splits, experiment.dataset.labels, plan.seed)
    evaluator = GateEvaluator(work, parameters, experiment.labels, held_out)
    course = Course([np.concatenate([fold, extra]) for fold in folds], plan)
    work.remember(course)
    outcome = tune(
        work.learn,
        course,
        experiment.threat,
        plan,
        parameters,
        evaluator.evaluate,
        saved.load((len(folds), len(parameters.neutral))),
        lambda now: progress(_bar(now), now.step, now.steps),
        saved.keep,
    )
    if outcome.end == "interrupted":
        progress("interrupted · keeping the best gates so far; again to keep none", 0, 1)
    choice = _choose(outcome, parameters, setting.masking.max_accuracy_drop, evaluator)
    learned = GateEvaluator(work, parameters, experiment.labels, folds[:1])
    fit = learned.evaluate(choice.theta[None])
    gates = settle_gates(experiment.classifier.model, sites, split_gates(choice.gates, sites))
    return TunedGates(tuple(sites), tuple(gates), choice, outcome, fit, plan)


@dataclass(frozen=True)
class _Saved:
    """Where the state of a run is kept, if anywhere, and what it is known by."""

    path: Path | None
    name: str

    def load(self, shape: tuple[int, int]) -> TuningState | None:
        """Return the state that a run goes on from; see :func:`load_state` for what is raised."""
        if self.path is None or not self.path.exists():
            return None
        return load_state(self.path, self.name, shape)

    def keep(self, state: TuningState) -> None:
        """Save the state of a run."""
        if self.path is not None:
            save_state(state, self.path, self.name)


def _choose(
    outcome: Outcome, parameters: Parameters, max_drop: float, evaluator: GateEvaluator
) -> GateChoice:
    """Choose among the checkpoints of a run; see :func:`tune_gates` for what is raised."""
    try:
        return choose_gates(
            outcome.state.checkpoints, parameters, max_drop, evaluator.evaluate, evaluator.drop
        )
    except GateError:
        if outcome.end == "interrupted":
            # That there are none yet says nothing of the model.
            raise KeyboardInterrupt from None
        raise


def _make(
    subject: Subject,
    setting: HardenSetting,
    splits: Splits,
    attack: Attack,
    tuned: TunedGates,
) -> HardenedCandidate:
    experiment, further = subject.first, subject.further
    classifier = experiment.classifier
    put_in = fold_gates if setting.tuning.emit == "fold" else insert_gates
    facts = {
        "method": "tuned",
        "emit": setting.tuning.emit,
        "layers": setting.tuning.layers,
        "gates": setting.tuning.gates,
        **gate_facts(tuned.sites, tuned.gates, shifts=setting.tuning.shifts),
    }
    if further is not None:
        facts[UNLABELLED] = further.more.sha256
    file = classifier.file
    if setting.tuning.emit == "fold":
        file = replace(file, model=file.load_some(scaled_names(tuned.sites)))
    source = file.model
    hardened = put_in(source, tuned.sites, tuned.gates, metadata(experiment, attack, facts))
    remarks = check_hardened(experiment, hardened)
    faults = gate_faults(file, hardened, classifier.ending)
    if not faults:
        faults = gate_runtime_faults(
            classifier.model,
            experiment.with_weights(hardened),
            classifier.ending,
            proof_samples(experiment, splits),
            # Wherever they were tuned: it is a proof of the file, and the CPU rounds least.
            experiment.device.host,
        )
    refuse(experiment, faults)
    control = put_in(source, tuned.sites, shuffled(tuned.gates, setting.run.seed), {})
    return HardenedCandidate(
        Edit("hardened", hardened),
        Edit("control", control),
        _told(tuned, facts, experiment.threat, 0 if further is None else len(further.kept)),
        (*tuned.remarks, *remarks),
        tuned.outcome.end == "interrupted",
    )


def _told(
    tuned: TunedGates, facts: Mapping[str, str], threat: ThreatModel, unlabelled: int
) -> MaskInfo:
    """Return what a report says of the gates; ``indices`` count them without the shifts."""
    pairs = zip(tuned.sites, tuned.gates, strict=True)
    every = np.concatenate([values for site, values in pairs if not site.adds])
    removed = np.flatnonzero(every == 0)
    return MaskInfo(
        method="tuned",
        score=None,
        ratio=len(removed) / len(every),
        removed=len(removed),
        total=len(every),
        indices=tuple(int(index) for index in removed),
        sha256=facts["mask.sha256"],
        shifts=int(facts.get(SHIFTS, 0)),
        unlabelled=unlabelled,
        tuning=TuningInfo(_attack_of(tuned, threat), tuned.outcome.state.step),
    )


def _attack_of(tuned: TunedGates, threat: ThreatModel) -> AttackInfo:
    """Return the attack that gates were tuned under: steps from a random start, as PGD's."""
    return AttackInfo(
        name="pgd",
        norm=threat.norm,
        eps=threat.eps,
        steps=tuned.outcome.state.attack_steps,
        gradient="white-box",
    )


def shuffled(gates: Sequence[Array], seed: int) -> list[Array]:
    """Return the same gates (and shifts) in random order within each layer: the control."""
    generator = np.random.default_rng(seed)
    return [generator.permutation(values) for values in gates]


def _name_of_run(subject: Subject, setting: HardenSetting, plan: TuningPlan) -> str:
    """Return what tells one run from another: only with the same may a saved state be used."""
    experiment, further, threat = subject.first, subject.further, subject.first.threat
    facts = (
        experiment.classifier.file.sha256,
        experiment.dataset.sha256,
        None if further is None else further.more.sha256,
        experiment.classifier.ending.node,
        setting.tuning.layers,
        setting.tuning.gates,
        setting.tuning.emit,
        setting.tuning.shifts,
        threat.norm,
        threat.eps,
        astuple(plan),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _bar(now: StepReport) -> str:
    text = f"tuning · loss {now.loss:.2f}, attacked {in_percent(now.accuracy, 0)}"
    if now.metrics is None:
        return text
    return (
        f"{text} · select: clean {in_percent(now.metrics.clean / now.metrics.clean_count)}, "
        f"PGD {in_percent(now.metrics.robust / now.metrics.count)}"
    )
