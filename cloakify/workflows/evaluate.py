"""Evaluate: try everything on models side by side, and say what may be concluded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from cloakify.assessment.attack_plan import (
    check_budgets,
    chosen_attacks,
    label_attack,
    plan_attacks,
)
from cloakify.assessment.evaluate_report import Measured, evaluate_report
from cloakify.assessment.expected_work import outlook_of_plan
from cloakify.assessment.label_accuracy import attacking_labels, label_accuracy
from cloakify.assessment.other_threats import other_threats, trying_others
from cloakify.data import Copies, Samples
from cloakify.engine.engine import Engine
from cloakify.engine.task import Job, work_of
from cloakify.errors import UsageError
from cloakify.evaluation.attack_results import AttackPlan
from cloakify.experiment.classifier import Classifier, open_classifier
from cloakify.experiment.counting import counted
from cloakify.experiment.engines import Engines
from cloakify.experiment.evaluation_tasks import (
    attack,
    attacking,
    look,
    looking,
    plant,
    planting,
)
from cloakify.experiment.experiment import Progress, open_experiment
from cloakify.experiment.outlook import Outlook, measure_pace
from cloakify.experiment.outputs import check_outputs
from cloakify.experiment.preflight import Preflight, preflight, seen_first
from cloakify.experiment.scope import all_let_go
from cloakify.experiment.stage_times import StageTimes
from cloakify.experiment.subject import Subject
from cloakify.experiment.time_budget import within_time
from cloakify.experiment.unchanged import Watched
from cloakify.onnxfile import path_of
from cloakify.printable import shape_text
from cloakify.report.comparison import EvaluateReport, OtherThreats
from cloakify.report.records import LabelAccuracy
from cloakify.settings import DataOptions, EvaluateSetting
from cloakify.settings.command_line import command_line


@dataclass(frozen=True)
class EvaluateResult:
    """What :func:`evaluate` found.

    Attributes
    ----------
    report
        Everything that is to be told.
    gate
        The gate that was missed, as a sentence.
    notes
        Remarks on the data.
    class_names
        Name of each class index, where the data has names.
    """

    report: EvaluateReport
    gate: str | None
    notes: tuple[str, ...]
    class_names: tuple[str, ...] | None


@all_let_go()
def evaluate(
    models: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    data: Samples,
    setting: EvaluateSetting | None = None,
    progress: Progress = lambda stage, done, total: None,
    attacked: str | os.PathLike[str] | None = None,
    reports: Sequence[str | os.PathLike[str]] = (),
    told: Callable[[Outlook], None] | None = None,
) -> EvaluateResult:
    """Measure the clean and robust accuracy of models on the same samples.

    Parameters
    ----------
    models
        An ``.onnx`` file, or several; the first one is what the others are compared with. They take
        inputs of one shape, preprocessed in one way, and have the same classes.
    data
        Samples: a path of whatever form (see :func:`cloakify.data.open_data`), a pair of arrays
        (x, y), a DataFrame, or an iterable of pairs or of batches of such, as the models take them.
    setting
        Everything else.
    progress
        Called as ``progress(stage, done, total)``.
    attacked
        Attacked copies of the samples, paired by name, ``index`` or order, to be tried too; those
        within a budget count there.
    reports
        Where the caller will write reports: looked at before the long work.
    told
        Called once before that with what it will take, which is measured for it.

    Raises
    ------
    CloakifyError
        One of its kinds; see :mod:`cloakify.errors`.
    """
    setting = EvaluateSetting.of(setting)
    paths = _distinct(models)
    if setting.evaluation.require_gain is not None and len(paths) < 2:
        raise UsageError("--require-gain compares with the first model: give a second one")
    clock = StageTimes()
    with clock.stage("open"):
        opened = _open(paths, data, setting, progress, attacked, reports)
        subject, engine = opened.subject, opened.engine
    with clock.stage("look"):
        seen = _look_first(opened, setting)
        doubts, low = seen_first(subject, engine, seen), [each.low for each in seen if each.low]
        setting, plan = _plan(opened, setting, seen, clock.spent, told)
        work = _work(opened, setting, plan)
        engine.begin(work.jobs)
        probes = look(engine, work.looks, counted(progress, "looking", work_of(work.looks)))
    with clock.stage("attack"):
        tell = counted(progress, "attacking", work.attempts.work)
        results = attack(engine, work.attempts, plan, tell)
    with clock.stage("test"):
        planted = [plant(engine, jobs) for jobs in work.plants]
    fared: list[LabelAccuracy | None] = [None for _ in paths]
    if work.labels:
        with clock.stage("labels"):
            tell = counted(progress, "labels", work_of(work.labels))
            fared = [label_accuracy(subject, engine, job, tell) for job in work.labels]
    besides: list[OtherThreats | None] = [None for _ in paths]
    if work.others:
        with clock.stage("others"):
            tell = counted(progress, "other threats", work_of(work.others))
            besides = [other_threats(subject, engine, job, tell) for job in work.others]
    opened.watched.check()
    every = zip(probes, results, planted, fared, besides, doubts, strict=True)
    measured = [Measured(*each) for each in every]
    repeated = setting.replace(time_budget=None)
    command = command_line("evaluate", paths, repeated, data=data, attacked=attacked)
    report = replace(
        evaluate_report(subject.first, opened.classifiers, plan, measured, clock.seconds, command),
        engine=opened.engines.took_part,
        # Not of memory nor of who did the work: the same run has the same report.
        notes=(*subject.first.dataset.notes, *low),
    )
    return EvaluateResult(
        report,
        missed_gate(report, setting.evaluation.require_gain),
        (*opened.notes, *low, *opened.engines.notes),
        subject.first.dataset.class_names,
    )


@dataclass(frozen=True)
class _Opened:
    """What is open as long as models are evaluated.

    Attributes
    ----------
    subject
        The models with their samples.
    watched
        These, as they were when they were opened.
    given
        Attacked copies of these.
    engines, engine
        Who does the work.
    notes
        Remarks on the data.
    """

    subject: Subject
    watched: Watched
    given: Copies | None
    engines: Engines
    engine: Engine[Subject]
    notes: tuple[str, ...]

    @property
    def classifiers(self) -> list[Classifier]:
        """The models, in their order."""
        return [experiment.classifier for experiment in self.subject.experiments]


def _open(
    paths: Sequence[Path],
    data: Samples,
    setting: EvaluateSetting,
    progress: Progress,
    attacked: str | os.PathLike[str] | None,
    reports: Sequence[str | os.PathLike[str]],
) -> _Opened:
    """Open models and samples, before anything is done with them."""
    largest = check_budgets(setting.threat.eps)[-1]
    # What is wrong with these is said before anything is read.
    chosen_attacks(setting)
    classifiers = [open_classifier(path, setting.model, needs_head=False) for path in paths]
    check_outputs(
        reports,
        classifiers,
        data,
        attacked,
        read=setting.data.read,
        claim=setting.engine.alone,
    )
    _check_alike(classifiers, setting.data)
    engines = Engines("evaluate", setting, progress)
    whole = open_experiment(classifiers[0], data, setting.at(largest), engines.label)
    first = whole.without_copies()
    given = None
    if attacked is not None:
        given = whole.copies(attacked).of(whole.dataset.distinct)
    subject = Subject([first, *(first.of(other) for other in classifiers[1:])], given)
    watched = Watched(subject)
    return _Opened(subject, watched, given, engines, engines.on(subject), whole.notes)


def _look_first(opened: _Opened, setting: EvaluateSetting) -> list[Preflight]:
    """Run each of the models on clean samples."""
    models = range(len(opened.subject.experiments))
    gradients = any(attack.gradient == "white-box" for attack in chosen_attacks(setting))
    return [
        preflight(opened.subject, model, opened.engine, gradients=gradients) for model in models
    ]


def _plan(
    opened: _Opened,
    setting: EvaluateSetting,
    seen: Sequence[Preflight],
    spent: float,
    told: Callable[[Outlook], None] | None,
) -> tuple[EvaluateSetting, AttackPlan]:
    """Return what to try, and the setting that it is made by.

    Another one than was asked for, where that would take longer than it may.

    Parameters
    ----------
    seen
        What the models did at first.
    spent
        Seconds that have gone by.
    told
        See :func:`evaluate`.
    """
    subject, first = opened.subject, opened.subject.first
    models = range(len(subject.experiments))
    gradients = any(attack.gradient == "white-box" for attack in chosen_attacks(setting))
    passable = any(each.coverage.passable for each in opened.classifiers)
    passable |= any(each.slopes.hide for each in seen)

    def planned(tried: EvaluateSetting) -> AttackPlan:
        return plan_attacks(
            tried,
            chosen_attacks(tried),
            first.threat,
            first.dataset.sample_shape,
            len(first.dataset),
            len(models),
            opened.given,
            passable,
        )

    if told is None and setting.evaluation.time_budget is None:
        return setting, planned(setting)
    pace = measure_pace(
        subject.targets[0],
        [first.threat.with_eps(eps) for eps in check_budgets(setting.threat.eps)],
        first.dataset,
        np.arange(len(first.dataset)),
        gradients=gradients,
    )

    def outlook(tried: EvaluateSetting) -> Outlook:
        return outlook_of_plan(planned(tried), len(first.dataset), len(models), pace)

    setting = within_time(setting, spent, lambda tried: outlook(tried).seconds)
    if told is not None:
        told(outlook(setting))
    return setting, planned(setting)


@dataclass(frozen=True)
class _Work:
    """All that is to be done, of which an engine is told at once.

    Attributes
    ----------
    looks, plants, labels, others
        One job for each model, or of ``plants`` none or one; none of ``labels`` and ``others``
        where they are not asked for.
    attempts
        Of all models together.
    """

    looks: list[Job[Subject]]
    attempts: Job[Subject]
    plants: Sequence[Sequence[Job[Subject]]]
    labels: Sequence[Job[Subject]]
    others: Sequence[Job[Subject]]

    @property
    def jobs(self) -> list[Job[Subject]]:
        """In the order in which they are done."""
        return [*self.looks, self.attempts, *chain(*self.plants), *self.labels, *self.others]


def _work(opened: _Opened, setting: EvaluateSetting, plan: AttackPlan) -> _Work:
    subject, attacks = opened.subject, chosen_attacks(setting)
    models, every = range(len(subject.experiments)), np.arange(len(subject.first.dataset))
    gradients = any(attack.gradient == "white-box" for attack in attacks)
    others = []
    if setting.evaluation.other_threats:
        others = trying_others(subject, models, attacks[0], setting.run.seed)
    return _Work(
        [looking(subject, model, gradients) for model in models],
        attacking(subject, plan, opened.engines.parts),
        [planting(model, plan.white_box, every, plan.seed) for model in models],
        attacking_labels(subject, models, label_attack(setting, attacks)),
        others,
    )


def missed_gate(report: EvaluateReport, required: float | None) -> str | None:
    """Return the gate that a model's gain misses, as a sentence, or ``None``."""
    if required is None:
        return None
    largest = report.threat.eps[-1]
    for entry in report.comparisons:
        gain = entry.paired.difference.value
        if (entry.measure, entry.eps) == ("worst_case", largest) and gain < required:
            return (
                f"{entry.model}: the worst-case gain at the largest budget is {100 * gain:+.1f} "
                f"points, --require-gain asks for {100 * required:+.1f}"
            )
    return None


def _distinct(models: object) -> list[Path]:
    if isinstance(models, str) or not isinstance(models, Sequence):
        models = [models]
    if not models:
        raise UsageError("give at least one model")
    paths = [path_of(model) for model in models]
    for place, path in enumerate(paths):
        for other in paths[:place]:
            same = path.exists() and other.exists() and path.samefile(other)
            if path == other or same:
                raise UsageError(f"{path} is given twice: give each model once")
    return paths


def _check_alike(classifiers: Sequence[Classifier], options: DataOptions) -> None:
    """Raise UsageError unless all models take the same samples and have the same classes.

    A model that nothing comes with takes what the first one does.
    """
    first = classifiers[0]
    used = first.inputs(options)
    for other in classifiers[1:]:
        own = other.inputs(options)
        if own.source is not None and not own.is_as(used):
            raise UsageError(
                f"{other.file.path} takes inputs as {own.source} says ({own}), {first.file.path} "
                f"as {used.source or 'nothing'} says ({used}): models are compared on the same "
                "samples; say by options how they are made"
            )
        shapes = [classifier.spec.sample_shape for classifier in (first, other)]
        alike = len(shapes[0]) == len(shapes[1]) and all(
            one == two or one is None or two is None for one, two in zip(*shapes, strict=True)
        )
        if not alike or first.spec.channel_axis != other.spec.channel_axis:
            raise UsageError(
                f"{other.file.path} takes samples of shape {shape_text(shapes[1])}, "
                f"{first.file.path} of {shape_text(shapes[0])}: models are compared on the same "
                "samples"
            )
        if first.scores.num_classes != other.scores.num_classes:
            raise UsageError(
                f"{other.file.path} has {other.scores.num_classes} classes, "
                f"{first.file.path} has {first.scores.num_classes}: they can't be compared"
            )
