"""Harden: calibrate, choose a mask, put it in, prove that it is the only change, and judge it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from msgspec import structs

from cloakify.assessment.comparing import compare, comparing
from cloakify.assessment.expected_work import outlook_of_hardening
from cloakify.assessment.harden_report import (
    given_copies,
    harden_report,
    judge_mask,
    missed_gate,
)
from cloakify.assessment.label_accuracy import attacking_labels, label_accuracy
from cloakify.assessment.masking_checks import check_masking, codes_in_doubt
from cloakify.attacks import Attack
from cloakify.attacks.given import Given
from cloakify.data import Samples, Splits
from cloakify.errors import UsageError
from cloakify.evaluation.robustness import Attacks
from cloakify.experiment.chosen_attacks import (
    chosen_attack,
    evaluation_attack,
    follows_gradient,
    label_attack,
    straight_attack,
)
from cloakify.experiment.classifier import open_source
from cloakify.experiment.counting import counted
from cloakify.experiment.effort import effort_of, samples_reported
from cloakify.experiment.engines import Engines, workers_let_go
from cloakify.experiment.experiment import Experiment, Progress, open_experiment
from cloakify.experiment.outlook import Outlook, measure_pace
from cloakify.experiment.outputs import check_outputs
from cloakify.experiment.preflight import preflight
from cloakify.experiment.stage_times import StageTimes
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.experiment.time_budget import within_time
from cloakify.hardening.gate_method import find_gate_candidate
from cloakify.hardening.mask_method import find_mask_candidate
from cloakify.hardening.unlabelled import without_copies
from cloakify.onnxfile import find_model_file, save_model
from cloakify.report.records import GivenCopies, HardenLabels, HardenReport
from cloakify.settings import HardenSetting
from cloakify.settings.command_line import command_line

# Samples below which neither a choice nor a figure means much.
FEW = 30


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


@workers_let_go()
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
        Calibration data: a path of whatever form (see :func:`cloakify.data.open_data`), or an
        iterable of pairs (x, y) or of batches of such, as the model takes them.
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
    asked = setting = setting or HardenSetting()
    if attacked is not None:
        setting = _for_copies(setting)
    if unlabelled is not None and setting.masking.method != "tuned":
        raise UsageError("--unlabelled helps to tune gates; give --method tuned")
    # Samples only just over the border would hardly move the features.
    attack: Attack = chosen_attack(setting, stop_early=False)
    path = find_model_file(Path(model))
    target_path = path.with_suffix(".hardened.onnx") if output is None else Path(output)
    clock = StageTimes()
    with clock.stage("open"):
        classifier = open_source(path, setting.model, replace_mask=setting.masking.replace)
        check_outputs(
            [target_path, setting.tuning.state, *reports],
            [classifier],
            data,
            attacked,
            unlabelled,
            read=setting.data.read,
        )
        engines = Engines("harden", setting, progress)
        experiment = open_experiment(classifier, data, setting, engines.label)
        splits = _splits(experiment, setting)
        further = None
        if unlabelled is not None:
            plain = setting.replace(labels="model", limit=None)
            others = open_experiment(classifier, unlabelled, plain, engines.label).dataset
            further = without_copies(experiment.dataset, others)
        given = None if attacked is None else experiment.copies(attacked)
        masked = setting.masking.method == "deepcloak"
        subject = Subject([experiment], given, masked=masked, needs_head=True)
        engine, target = engines.on(subject), subject.targets[SOURCE]
        setting = _with_state(setting)
        experiment = replace(experiment, setting=setting)
        white_box = follows_gradient(setting)
        look = preflight(experiment, target, gradients=white_box)
        # An exact match is lost with one label, which the ratio singles out and the sum does not.
        singled = look.small_logits or target.independent
        if singled and setting.evaluation.attack == "auto":
            setting = setting.replace(evaluation_attack="apgd-dlr")
            experiment = replace(experiment, setting=setting)
        copies = None
        if given is not None:
            attack, copies = Given(given), given_copies(given, experiment)
        hides = white_box and (look.hides_slopes or classifier.coverage.passable)
    if told is not None or setting.evaluation.time_budget is not None:
        with clock.stage("pace"):
            pace = measure_pace(
                target,
                [experiment.threat],
                experiment.dataset,
                splits.report,
                gradients=white_box,
            )
            setting = within_time(
                setting,
                clock.spent,
                lambda tried: (
                    outlook_of_hardening(tried, _splits(experiment, tried), attack, pace).seconds
                ),
            )
            splits = _splits(experiment, setting)
            experiment = replace(experiment, setting=setting)
        if told is not None:
            told(outlook_of_hardening(setting, splits, attack, pace))
    evaluation = evaluation_attack(setting, stop_early=True)
    if setting.masking.method == "tuned":
        candidate = find_gate_candidate(experiment, splits, further, attack, clock, progress)
    else:
        candidate = find_mask_candidate(subject, engine, setting, splits, attack, clock, progress)
    subject.let_go()
    with clock.stage("evaluate"):
        hardened = candidate.hardened
        models = (SOURCE, hardened, candidate.control)
        through = straight_attack(setting) if hides else None
        attacks = Attacks(
            attack,
            evaluation_attack(setting, stop_early=False),
            evaluation,
            effort_of(setting).onward,
            through,
        )
        job = comparing(subject, models, attacks, splits.report)
        correctness = compare(engine, job, counted(progress, "evaluating", job.work))
        subject.let_go()
        judging = [attack for attack in (evaluation, through) if attack is not None]
        warnings = check_masking(
            subject,
            engine,
            effort_of(setting),
            hardened,
            splits,
            correctness[1],
            judging,
            progress,
        )
        accuracy, verdict = judge_mask(*correctness, doubts=codes_in_doubt(warnings))
        jobs = attacking_labels(subject, models[:2], label_attack(setting), splits.report)
        fared = [label_accuracy(subject, engine, job, lambda done: None) for job in jobs]
        labels = HardenLabels(*fared) if fared else None
    engine.finish()
    gate = missed_gate(setting, accuracy.gain.adaptive.value, verdict)
    if gate is None:
        with clock.stage("write"):
            save_model(hardened.model, target_path, classifier.file)
    written = None if gate else target_path
    repeated = asked.replace(effort=setting.evaluation.effort, time_budget=None)
    command = command_line(
        "harden",
        [model],
        repeated,
        data=data,
        attacked=attacked,
        unlabelled=unlabelled,
        output=output,
    )
    report = harden_report(
        experiment,
        splits,
        candidate.mask,
        (attack, evaluation),
        (accuracy, verdict, tuple(warnings)),
        written,
        clock.seconds,
        copies,
        labels,
        command,
    )
    report = structs.replace(report, engine=engines.took_part)
    notes = (*experiment.notes, *engines.notes, *_few(splits), *_strays(copies))
    notes += candidate.remarks
    if further is not None:
        notes += (further.note,)
    return HardenResult(
        report, written, gate, notes, experiment.dataset.class_names, candidate.interrupted
    )


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
    return setting.replace(rounds=1)


def _few(splits: Splits) -> tuple[str, ...]:
    """Say where too few samples choose a mask or judge it."""
    chosen, reported = len(splits.select), len(splits.report)
    if min(chosen, reported) >= FEW:
        return ()
    return (
        f"the choice among masks rests on {chosen} sample{'s' * (chosen != 1)} and the figures on "
        f"{reported}: give more data for either to mean much",
    )


def _strays(copies: GivenCopies | None) -> tuple[str, ...]:
    """Tell of given copies that no attack within the budget could have made."""
    if copies is None:
        return ()
    (at,) = copies.within
    if not at.outside_ball and not at.outside_box:
        return ()
    return (
        f"of the given copies {at.outside_ball} lie outside the budget and {at.outside_box} "
        "outside the box: they calibrate as they are, and the static figure is on them",
    )
