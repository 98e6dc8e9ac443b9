"""Harden: calibrate, choose a mask, put it in, prove that it is the only change, and judge it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from msgspec import structs

from cloakify.assessment.expected_work import outlook_of_gates, outlook_of_masking
from cloakify.assessment.harden_remarks import few_samples, stray_copies
from cloakify.assessment.harden_report import given_copies, harden_report, missed_gate
from cloakify.assessment.judging import Judgement, judge_hardened
from cloakify.attacks import Attack
from cloakify.attacks.given import Given
from cloakify.data import Samples, Splits
from cloakify.data.unlabelled import without_copies
from cloakify.engine.engine import Engine
from cloakify.errors import UsageError
from cloakify.experiment.chosen_attacks import calibration_attack, follows_gradient
from cloakify.experiment.classifier import open_source
from cloakify.experiment.effort import effort_of, samples_reported
from cloakify.experiment.engines import Engines
from cloakify.experiment.experiment import Experiment, Progress, open_experiment
from cloakify.experiment.outlook import Outlook, measure_pace
from cloakify.experiment.outputs import check_outputs
from cloakify.experiment.preflight import preflight
from cloakify.experiment.scope import all_let_go
from cloakify.experiment.stage_times import StageTimes
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.experiment.time_budget import within_time
from cloakify.experiment.unchanged import Watched
from cloakify.hardening.candidate import HardenedCandidate
from cloakify.hardening.gate_layers import settled
from cloakify.hardening.gate_method import find_gate_candidate
from cloakify.hardening.mask_method import find_mask_candidate
from cloakify.hardening.tuning_outlook import measure_tuning, outlook_of_tuning
from cloakify.onnxfile import find_model_file, path_of, save_model
from cloakify.report.records import FileRef, GivenCopies, HardenReport
from cloakify.settings import HardenSetting
from cloakify.settings.command_line import command_line


@dataclass(frozen=True)
class HardenResult:
    """What :func:`harden` made.

    Attributes
    ----------
    report
        Everything that is to be told.
    path
        The hardened file, or ``None`` where a gate was missed: a gain that was required, or, for a
        mask or gates that cloakify chose, the verdict that they harden.
    gate
        The gate that was missed, as a sentence.
    notes
        Remarks on the data, and on the tuning.
    interrupted
        Whether the user cut the tuning short; what it had found is in the file.
    class_names
        What the class indices stand for.
    """

    report: HardenReport
    path: Path | None
    gate: str | None
    notes: tuple[str, ...]
    class_names: tuple[str, ...] | None
    interrupted: bool = False


@all_let_go()
def harden(
    model: str | os.PathLike[str],
    data: Samples,
    output: str | os.PathLike[str] | None = None,
    setting: HardenSetting | None = None,
    progress: Progress = lambda stage, done, total: None,
    attacked: str | os.PathLike[str] | None = None,
    reports: Sequence[str | os.PathLike[str]] = (),
    told: Callable[[Outlook], None] | None = None,
    unlabelled: Samples | None = None,
) -> HardenResult:
    """Write a hardened copy of an ONNX classifier and report what that buys.

    Parameters
    ----------
    model
        The ``.onnx`` file.
    data
        Calibration data: a path of whatever form (see :func:`cloakify.data.open_data`), a URL of
        such as text, which is fetched (see :func:`cloakify.data.fetching.fetch`), or an iterable
        of pairs (x, y) or of batches of such, as the model takes them.
    output
        Where to write; ``<stem>.hardened.onnx`` beside the source when left out.
    setting
        Everything else.
    progress
        Called as ``progress(stage, done, total)``.
    attacked
        Attacked copies of the data, paired by name, ``index`` or order: the mask is calibrated on
        them instead of the attack's. What is reported is attacked all the same.
    reports
        Where the caller will write reports: looked at before the long work, as the output is.
    told
        Called once before that with what it will take, which is measured for it.
    unlabelled
        Samples to tune gates on besides, of any form that ``data`` may have; labels are not read.

    Raises
    ------
    CloakifyError
        One of its kinds; see :mod:`cloakify.errors`. No file is left behind.
    """
    asked = HardenSetting.of(setting)
    calibrating = asked if attacked is None else _for_copies(asked)
    if unlabelled is not None and asked.masking.method != "tuned":
        raise UsageError("--unlabelled helps to tune gates; give --method tuned")
    path = find_model_file(path_of(model))
    files = _Files(
        path=path,
        target=path.with_suffix(".hardened.onnx") if output is None else Path(output),
        data=data,
        attacked=attacked,
        unlabelled=unlabelled,
        reports=tuple(reports),
    )
    clock = StageTimes()
    with clock.stage("open"):
        run = _open(files, calibrating, progress)
    run = _foretold(run, clock, told)
    candidate = _find(run, clock, progress)
    run.subject.let_go()
    with clock.stage("evaluate"):
        judged = judge_hardened(
            run.subject,
            run.engine,
            run.setting,
            candidate.hardened,
            candidate.control,
            run.splits,
            run.attack,
            run.hides_slopes,
            progress,
        )
    run.engine.finish()
    run.watched.check(run.splits.fit, run.splits.select, run.splits.report)
    gate = missed_gate(run.setting, judged.accuracy.gain.adaptive.value, judged.verdict)
    written = None
    if gate is None:
        with clock.stage("write"):
            written = _write(run, candidate, files.target)
    repeated = asked.replace(effort=run.setting.evaluation.effort, time_budget=None)
    named = {"data": data, "attacked": attacked, "unlabelled": unlabelled, "output": output}
    command = command_line("harden", [model], repeated, **named)
    report = _report(run, candidate, judged, written, clock.seconds, command)
    class_names = run.experiment.dataset.class_names
    notes = (*run.notes, *candidate.remarks)
    made = None if gate else files.target
    return HardenResult(report, made, gate, notes, class_names, candidate.interrupted)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """What a run reads and writes; see :func:`harden`."""

    path: Path
    target: Path
    data: Samples
    attacked: str | os.PathLike[str] | None
    unlabelled: Samples | None
    reports: tuple[str | os.PathLike[str], ...]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is open, and what was decided on.

    Attributes
    ----------
    attack
        That of the calibration.
    copies
        What is to be told of copies that were given.
    hides_slopes
        Whether attacks should go through steps and levels, too.
    """

    setting: HardenSetting
    experiment: Experiment
    subject: Subject
    watched: Watched
    engines: Engines
    engine: Engine[Subject]
    splits: Splits
    attack: Attack
    copies: GivenCopies | None
    hides_slopes: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data and on who did the work."""
        notes = (*self.experiment.notes, *self.engines.notes)
        notes += (*few_samples(self.splits), *stray_copies(self.copies))
        further = self.subject.further
        return notes if further is None else (*notes, further.note)

    def with_setting(self, setting: HardenSetting) -> _Run:
        """Return the same with another setting, and with the samples that it asks for."""
        experiment = replace(self.experiment, setting=setting)
        splits = _splits(experiment, setting)
        return replace(self, setting=setting, experiment=experiment, splits=splits)


def _open(files: _Files, setting: HardenSetting, progress: Progress) -> _Run:
    """Open model and data, and look at what the one does on the other."""
    attack = calibration_attack(setting)
    tuned = setting.masking.method == "tuned"
    classifier = open_source(
        files.path, setting.model, replace_mask=setting.masking.replace, tuned=tuned
    )
    check_outputs(
        [files.target, setting.tuning.state, *files.reports],
        [classifier],
        files.data,
        files.attacked,
        files.unlabelled,
        read=setting.data.read,
        claim=setting.engine.alone,
    )
    engines = Engines("harden", setting, progress)
    experiment = open_experiment(classifier, files.data, setting, engines.label)
    splits = _splits(experiment, setting)
    further = None
    if files.unlabelled is not None:
        plain = setting.replace(labels="model", limit=None)
        others = open_experiment(classifier, files.unlabelled, plain, engines.label).dataset
        further = without_copies(experiment.dataset, others)
    given = None if files.attacked is None else experiment.copies(files.attacked)
    needs_head = classifier.search.head is not None
    subject = Subject([experiment], given, further, masked=not tuned, needs_head=needs_head)
    watched = Watched(subject)
    engine, target = engines.on(subject), subject.targets[SOURCE]
    setting = _with_state(setting)
    white_box = follows_gradient(setting)
    look = preflight(subject, SOURCE, engine, gradients=white_box)
    # An exact match is lost with one label, which the ratio singles out and the sum does not.
    singled = look.small_logits or target.independent
    if singled and setting.evaluation.attack == "auto":
        setting = setting.replace(evaluation_attack="apgd-dlr")
    return _Run(
        setting=setting,
        experiment=replace(experiment, setting=setting, dataset=experiment.dataset.told(look.low)),
        subject=subject,
        watched=watched,
        engines=engines,
        engine=engine,
        splits=splits,
        attack=attack if given is None else Given(given),
        copies=None if given is None else given_copies(given, experiment),
        hides_slopes=white_box and (look.slopes.hide or classifier.coverage.passable),
    )


def _foretold(run: _Run, clock: StageTimes, told: Callable[[Outlook], None] | None) -> _Run:
    """Measure how fast the model is, tell how long all will take, and keep to a time budget."""
    if told is None and run.setting.evaluation.time_budget is None:
        return run
    # Looked for once, and not at each effort anew.
    tuned = run.setting.masking.method == "tuned"
    asked = settled(run.setting, run.experiment) if tuned else run.setting
    with clock.stage("pace"):
        pace = measure_pace(
            run.subject.targets[SOURCE],
            [run.experiment.threat],
            run.experiment.dataset,
            run.splits.report,
            gradients=follows_gradient(run.setting),
        )
        tuning = measure_tuning(run.subject, asked, run.splits) if tuned else None

    def outlook(setting: HardenSetting) -> Outlook:
        splits = _splits(run.experiment, setting)
        common = (setting, splits, run.attack, pace)
        if tuning is None:
            return outlook_of_masking(*common, run.experiment.classifier.head)
        return outlook_of_gates(*common, outlook_of_tuning(run.subject, setting, splits, tuning))

    setting = within_time(asked, clock.spent, lambda tried: outlook(tried).seconds)
    if told is not None:
        told(outlook(setting))
    return run if setting is run.setting else run.with_setting(setting)


def _find(run: _Run, clock: StageTimes, progress: Progress) -> HardenedCandidate:
    """Choose a mask or tune gates, put them in, and prove that they are the only change."""
    if run.setting.masking.method == "tuned":
        return find_gate_candidate(
            run.subject, run.engine, run.setting, run.splits, run.attack, clock, progress
        )
    return find_mask_candidate(
        run.subject, run.engine, run.setting, run.splits, run.attack, clock, progress
    )


def _write(run: _Run, candidate: HardenedCandidate, target: Path) -> FileRef:
    """Write the hardened file, and return what a report says of it."""
    digest = save_model(candidate.hardened.model, target, run.experiment.classifier.file)
    # What was written here: another run may have put its own in the same place by now.
    return FileRef(str(target), digest.hex())


def _report(
    run: _Run,
    candidate: HardenedCandidate,
    judged: Judgement,
    written: FileRef | None,
    seconds: Mapping[str, float],
    command: str,
) -> HardenReport:
    """Report what was made and what it buys.

    Parameters
    ----------
    written
        The file, if one was written.
    seconds
        What each stage took.
    command
        What makes the same again.
    """
    report = harden_report(
        run.experiment,
        run.splits,
        candidate.mask,
        (run.attack, judged.attack),
        (judged.accuracy, judged.verdict, judged.warnings),
        written,
        seconds,
        run.copies,
        judged.labels,
        command,
    )
    # Not of memory nor of who did the work: the same run has the same report.
    told_of = (*run.experiment.dataset.notes, *candidate.remarks)
    return structs.replace(report, engine=run.engines.took_part, notes=told_of)


def _splits(experiment: Experiment, setting: HardenSetting) -> Splits:
    """Deal the samples, as many of them as the effort asks for."""
    splits, effort = experiment.splits(), effort_of(setting)
    some = partial(splits.limited, experiment.labels, setting.run.seed)
    reported = samples_reported(setting)
    if setting.masking.method != "tuned":
        return some(fit=effort.fitted, select=effort.selected, report=reported)
    return some(report=reported)


def _with_state(setting: HardenSetting) -> HardenSetting:
    """Return the setting with the state of a tuning beside chunks that are kept."""
    folder = setting.engine.resume
    if folder is None or setting.masking.method != "tuned" or setting.tuning.state is not None:
        return setting
    return setting.replace(tune_state=folder / "tuning.npz")


def _for_copies(setting: HardenSetting) -> HardenSetting:
    """Return the setting for a calibration on given copies.

    There are no copies of samples attacked on a mask, so a second round has nothing to answer.

    Raises
    ------
    UsageError
        Gates are tuned on attacks of their own.
    """
    if setting.masking.method == "tuned":
        raise UsageError("--attacked calibrates a mask; --method tuned attacks for itself")
    default = type(setting)()
    if setting.attack != default.attack:
        raise UsageError(
            "--attacked calibrates the mask on these copies, and no attack does: leave out "
            "--attack, --steps, --restarts and --step-size"
        )
    if setting.masking.rounds not in (None, 1):
        raise UsageError(
            "--rounds knows attacks on its own mask from the second on, and --attacked gives "
            "copies for the first alone: leave one out"
        )
    return setting.replace(rounds=1)
