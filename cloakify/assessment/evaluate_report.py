"""From what withstood the attacks to figures, warnings, verdicts and the report of `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.assessment.device_info import device_info
from cloakify.data import Copies, Dataset
from cloakify.data.naming import told
from cloakify.evaluation import Distance, accuracy_figure, compare, judge, median_distance
from cloakify.evaluation.attack_results import AttackPlan, AttackResults
from cloakify.evaluation.planted_samples import PlantedTest
from cloakify.evaluation.probes import Probes
from cloakify.evaluation.warnings import (
    CALIBRATION_DATA,
    HARMLESS,
    EvaluationWarning,
    attack_warnings,
    blocked_gradients,
    distance_is_budget,
    planted_missed,
    probe_warnings,
    unbounded_fails,
)
from cloakify.experiment.classifier import Classifier
from cloakify.experiment.experiment import Experiment
from cloakify.onnxfile import read_metadata
from cloakify.report.comparison import (
    AttackAccuracy,
    Comparison,
    Convergence,
    CopiesAccuracy,
    CurvePoint,
    EvaluateData,
    EvaluateReport,
    ModelEvaluation,
    ModelVerdict,
    NoiseAccuracy,
    OtherThreats,
    RobustAccuracy,
    Threat,
    TransferAccuracy,
)
from cloakify.report.records import (
    SCHEMA_VERSION,
    AttackInfo,
    CopiesWithin,
    FileRef,
    GivenCopies,
    LabelAccuracy,
)
from cloakify.version import __version__


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of one model.

    Attributes
    ----------
    probes
        What its gradients look like.
    results
        What withstood the attacks.
    planted
        What the attacks found where there was something to find.
    labels
        How its independent labels fare, where it has some.
    others
        What it withstands that was not asked for, where that was tried.
    seen_first
        What a first look at it gave cause to say.
    """

    probes: Probes
    results: AttackResults
    planted: PlantedTest | None
    labels: LabelAccuracy | None
    others: OtherThreats | None
    seen_first: Sequence[EvaluationWarning]


def evaluate_report(
    experiment: Experiment,
    classifiers: Sequence[Classifier],
    plan: AttackPlan,
    measured: Sequence[Measured],
    timing: Mapping[str, float],
    command: str,
) -> EvaluateReport:
    """Put the report together; the first model is the one that the others are compared with.

    Parameters
    ----------
    command
        What a shell repeats the run with.
    """
    paths = [str(classifier.file.path) for classifier in classifiers]
    others = range(1, len(paths))
    results = [each.results for each in measured]
    data = _data(experiment, classifiers[0])
    warnings = _all_warnings(experiment.dataset, classifiers, plan, measured, data.chance)
    check = plan.gradient_free_check
    listed = [*plan.attacks, *([] if check is None else [check])]
    return EvaluateReport(
        schema_version=SCHEMA_VERSION,
        cloakify_version=__version__,
        device=device_info(experiment.device),
        threat=Threat(experiment.threat.norm, plan.budgets),
        attacks=tuple(
            AttackInfo(name=attack.name, steps=attack.steps, gradient=attack.gradient)
            for attack in listed
        ),
        data=data,
        models=tuple(
            _model(FileRef(path, classifier.file.sha256), plan, each, own, data.chance)
            for path, classifier, each, own in zip(
                paths, classifiers, measured, warnings, strict=True
            )
        ),
        transfer=tuple(_transfers(paths, results, plan)),
        comparisons=tuple(
            entry for number in others for entry in _comparisons(paths, results, plan, number)
        ),
        verdicts=tuple(
            entry
            for number in others
            for entry in _verdicts(paths, results, plan, number, warnings[number])
        ),
        timing=timing,
        perturbs=experiment.perturbs,
        copies=None if plan.given_copies is None else _given(plan.given_copies, results[0]),
        command=command,
    )


def _data(experiment: Experiment, classifier: Classifier) -> EvaluateData:
    dataset, scores = experiment.dataset, classifier.scores
    return EvaluateData(
        path=told(dataset.path),
        sha256=dataset.sha256,
        samples=len(dataset),
        num_classes=scores.num_classes,
        labels="model" if experiment.setting.data.labels == "model" else "given",
        preprocessing=experiment.inputs.told_of(experiment.dataset.forms),
        preprocessing_source=experiment.inputs.source,
        classes=dataset.class_names,
        task=scores.task.value,
    )


def _all_warnings(
    dataset: Dataset,
    classifiers: Sequence[Classifier],
    plan: AttackPlan,
    measured: Sequence[Measured],
    chance: float,
) -> list[list[EvaluationWarning]]:
    """Return what puts each model's figures in doubt."""
    seen = seen_before(dataset, classifiers)
    return [
        [
            *_blocked(classifiers[number]),
            *_warnings(plan, classifiers[number], each, number, chance),
            *filter(None, [planted_missed(each.planted)]),
            *each.seen_first,
            *seen[number],
        ]
        for number, each in enumerate(measured)
    ]


def seen_before(
    dataset: Dataset, classifiers: Sequence[Classifier]
) -> list[list[EvaluationWarning]]:
    """Say of each model whether it was hardened on the samples, or on the data they come from.

    A hardened file holds the digest of what it was calibrated on, so this sees the same samples,
    and under a limit also those that it leaves out; not that some few of them are the same.
    """
    told = [read_metadata(classifier.file.model).get("data.sha256") for classifier in classifiers]
    digests = {dataset.sha256}
    if len(dataset) < dataset.total and any(set(told) - {None, *digests}):
        digests.add(dataset.sha256_of_all)
    return [[CALIBRATION_DATA] if name in digests else [] for name in told]


def _blocked(classifier: Classifier) -> list[EvaluationWarning]:
    coverage = classifier.coverage
    return list(filter(None, [blocked_gradients(coverage.blocked, coverage.passable)]))


def _warnings(
    plan: AttackPlan, classifier: Classifier, measured: Measured, number: int, chance: float
) -> list[EvaluationWarning]:
    results, without = measured.results, classifier.coverage.missing
    names = [attack.name for attack in plan.attacks]
    white_box = sum(attack.gradient == "white-box" for attack in plan.attacks)
    check = None if plan.gradient_free_check is None else plan.gradient_free_check.name
    warnings = probe_warnings(measured.probes, follows=white_box > 0)
    warnings += attack_warnings(results, number, names, white_box, check, without)
    if plan.extended_budgets:
        warnings += filter(None, [unbounded_fails(results.extended[-1], chance)])
    distance = _median_distance(plan, results)
    if distance is not None:
        unfound = (_distances(plan, results) < results.distance) & results.clean
        budgets = (*plan.budgets, *plan.extended_budgets)
        bound = distance_is_budget(distance, budgets, unfound[results.searched])
        warnings += filter(None, [bound])
    return warnings


def _model(
    file: FileRef,
    plan: AttackPlan,
    measured: Measured,
    warnings: Sequence[EvaluationWarning],
    chance: float,
) -> ModelEvaluation:
    results = measured.results
    worst = results.worst_case
    budgets = list(enumerate(plan.budgets))
    convergence = () if plan.doubled is None else budgets
    return ModelEvaluation(
        model=file,
        clean=accuracy_figure(results.clean),
        noise=tuple(NoiseAccuracy(eps, accuracy_figure(results.noise[k])) for k, eps in budgets),
        robust=tuple(
            RobustAccuracy(eps, _attacks(plan, results, k), accuracy_figure(worst[k]))
            for k, eps in budgets
        ),
        curve=_curve(plan, results, chance),
        median_distance=_median_distance(plan, results),
        convergence=tuple(
            Convergence(
                plan.attacks[0].name,
                eps,
                plan.attacks[0].steps,
                accuracy_figure(results.first_attack[k, results.doubled_on]),
                accuracy_figure(results.doubled[k, results.doubled_on]),
            )
            for k, eps in convergence
        ),
        warnings=tuple(warnings),
        copies=() if plan.given_copies is None else tuple(_on_copies(results)),
        labels=measured.labels,
        others=measured.others,
    )


def _on_copies(results: AttackResults) -> Iterator[CopiesAccuracy]:
    for eps, counted in zip(results.budgets, results.counted, strict=True):
        right = results.on_copies[counted]
        yield CopiesAccuracy(eps, accuracy_figure(right) if len(right) else None)


def _given(copies: Copies, results: AttackResults) -> GivenCopies:
    """Count which copies count; they are the same for every model."""
    outside = int((~results.in_box).sum())
    within = [
        CopiesWithin(eps, int(counted.sum()), int((~ball).sum()), outside)
        for eps, counted, ball in zip(
            results.budgets, results.counted, results.in_ball, strict=True
        )
    ]
    return GivenCopies(told(copies.data.path), copies.data.sha256, tuple(within))


def _median_distance(plan: AttackPlan, results: AttackResults) -> Distance | None:
    if plan.nearest_search is None:
        return None
    return median_distance(_distances(plan, results)[results.searched])


def _distances(plan: AttackPlan, results: AttackResults) -> NDArray[np.float64]:
    """Return how near a misclassified point is known to be: as searched for, or by the budgets.

    Where a search fails, an attack within a budget may still have fooled the model.
    """
    known = np.where(results.clean, results.distance, 0.0)
    curve = [*zip(plan.budgets, results.worst_case, strict=True)]
    curve += zip(plan.extended_budgets, results.extended, strict=True)
    for eps, right in curve:
        known = np.where(right, known, np.minimum(known, eps))
    return known


def _attacks(plan: AttackPlan, results: AttackResults, place: int) -> tuple[AttackAccuracy, ...]:
    surviving = results.surviving[place]
    rows = [
        AttackAccuracy(attack.name, accuracy_figure(right))
        for attack, right in zip(plan.attacks, surviving, strict=True)
    ]
    if plan.gradient_free_check is not None and place == len(plan.budgets) - 1:
        right = surviving[-1] & results.checked
        rows.append(AttackAccuracy(plan.gradient_free_check.name, accuracy_figure(right)))
    return tuple(rows)


def _curve(plan: AttackPlan, results: AttackResults, chance: float) -> tuple[CurvePoint, ...]:
    """Return the worst case from no budget to the first one that brings it to chance; and the end.

    The last point is that without a bound.
    """
    rows = [(0.0, results.clean), *zip(plan.budgets, results.worst_case, strict=True)]
    extended = list(zip(plan.extended_budgets, results.extended, strict=True))
    for place, (eps, right) in enumerate(extended):
        last = place == len(extended) - 1
        if rows[-1][1].mean() > chance or last:
            rows.append((eps, right))
    return tuple(CurvePoint(eps, accuracy_figure(right)) for eps, right in rows)


def _transfers(
    paths: Sequence[str], results: Sequence[AttackResults], plan: AttackPlan
) -> list[TransferAccuracy]:
    return [
        TransferAccuracy(
            paths[source],
            paths[number],
            eps,
            accuracy_figure(results[number].transferred[source, k]),
        )
        for source in range(len(paths))
        for number in range(len(paths))
        for k, eps in enumerate(plan.budgets)
        if source != number
    ]


def _comparisons(
    paths: Sequence[str], results: Sequence[AttackResults], plan: AttackPlan, number: int
) -> list[Comparison]:
    """Compare a model with the first one: clean, on samples crafted against the first, at worst."""
    first, other = results[0], results[number]
    names = (paths[0], paths[number])
    comparisons = [Comparison(*names, "clean", None, compare(other.clean, first.clean))]
    for k, eps in enumerate(plan.budgets):
        transfer = compare(other.transferred[0, k], first.transferred[0, k])
        worst = compare(other.worst_case[k], first.worst_case[k])
        comparisons.append(Comparison(*names, "transfer", eps, transfer))
        comparisons.append(Comparison(*names, "worst_case", eps, worst))
    return comparisons


def _verdicts(
    paths: Sequence[str],
    results: Sequence[AttackResults],
    plan: AttackPlan,
    number: int,
    warnings: Sequence[EvaluationWarning],
) -> list[ModelVerdict]:
    first, other = results[0], results[number]
    # What puts the first model's attack in doubt makes a gain over it smaller, not larger.
    doubts = [warning.code.value for warning in warnings if warning.code not in HARMLESS]
    return [
        ModelVerdict(
            paths[0],
            paths[number],
            eps,
            judge(
                compare(other.worst_case[k], first.worst_case[k]).difference,
                static_gains=[compare(other.transferred[0, k], first.transferred[0, k]).difference],
                doubts=doubts,
                subject="the change",
            ),
        )
        for k, eps in enumerate(plan.budgets)
    ]
