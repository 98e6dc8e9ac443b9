"""From what withstood the trials to figures, warnings, verdicts and the report of `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cloakify.data import Copies, Dataset
from cloakify.evaluation import accuracy_figure, compare, judge, median_distance
from cloakify.evaluation.probes import Probes
from cloakify.evaluation.trials import AttackResults, Plan
from cloakify.evaluation.warnings import (
    CALIBRATION_DATA,
    HARMLESS,
    Finding,
    blocked_gradients,
    of_probes,
    of_trials,
    unbounded_fails,
)
from cloakify.experiment.experiment import Classifier, Experiment
from cloakify.onnxfile import read_metadata
from cloakify.report.comparison import (
    AttackAccuracy,
    Comparison,
    Convergence,
    CopiesAccuracy,
    CurvePoint,
    EvaluateData,
    EvaluateReport,
    EvaluationAttack,
    ModelEvaluation,
    ModelVerdict,
    NoiseAccuracy,
    RobustAccuracy,
    Threat,
    TransferAccuracy,
)
from cloakify.report.records import CopiesWithin, DeviceInfo, FileRef, GivenCopies, Notice
from cloakify.version import __version__


def evaluate_report(
    experiment: Experiment,
    classifiers: Sequence[Classifier],
    plan: Plan,
    probes: Sequence[Probes],
    trials: Sequence[AttackResults],
    timing: Mapping[str, float],
) -> EvaluateReport:
    """Put the report together; the first model is the one that the others are compared with."""
    paths = [str(classifier.file.path) for classifier in classifiers]
    chance = 1 / classifiers[0].head.num_classes
    warnings = [
        [*_blocked(classifier), *_warnings(plan, probe, trial, number, chance), *seen]
        for number, (classifier, probe, trial, seen) in enumerate(
            zip(
                classifiers,
                probes,
                trials,
                seen_before(experiment.dataset, classifiers),
                strict=True,
            )
        )
    ]
    models = tuple(
        _model(
            FileRef(str(classifier.file.path), classifier.file.sha256), plan, trial, found, chance
        )
        for classifier, trial, found in zip(classifiers, trials, warnings, strict=True)
    )
    listed = [*plan.attacks, *([] if plan.check is None else [plan.check])]
    dataset = experiment.dataset
    return EvaluateReport(
        cloakify_version=__version__,
        device=DeviceInfo(experiment.device.provider),
        threat=Threat(experiment.threat.norm, plan.budgets),
        attacks=tuple(EvaluationAttack(a.name, a.steps, a.gradient) for a in listed),
        data=EvaluateData(
            path=str(dataset.path),
            sha256=dataset.sha256,
            samples=len(dataset),
            num_classes=classifiers[0].head.num_classes,
            labels=experiment.setting.data.labels,
        ),
        models=models,
        transfer=tuple(_transfers(paths, trials, plan)),
        comparisons=tuple(
            entry
            for number in range(1, len(paths))
            for entry in _comparisons(paths, trials, plan, number)
        ),
        verdicts=tuple(
            entry
            for number in range(1, len(paths))
            for entry in _verdicts(paths, trials, plan, number, warnings[number])
        ),
        timing=timing,
        perturbs=experiment.perturbs,
        copies=None if plan.given is None else _given(plan.given, trials[0]),
    )


def seen_before(dataset: Dataset, classifiers: Sequence[Classifier]) -> list[list[Finding]]:
    """Say of each model whether it was hardened on the samples, or on the data they come from.

    A hardened file holds the digest of what it was calibrated on, so this sees the same samples,
    and under a limit also those that it leaves out; not that some few of them are the same.
    """
    told = [read_metadata(classifier.file.model).get("data.sha256") for classifier in classifiers]
    digests = {dataset.sha256}
    if len(dataset) < dataset.total and any(set(told) - {None, *digests}):
        digests.add(dataset.sha256_of_all)
    return [[CALIBRATION_DATA] if name in digests else [] for name in told]


def _blocked(classifier: Classifier) -> list[Finding]:
    coverage = classifier.coverage
    found = blocked_gradients(coverage.blocked, coverage.passable)
    return [] if found is None else [found]


def _warnings(
    plan: Plan, probes: Probes, trials: AttackResults, number: int, chance: float
) -> list[Finding]:
    names = [attack.name for attack in plan.attacks]
    white_box = sum(attack.gradient == "white-box" for attack in plan.attacks)
    check = None if plan.check is None else plan.check.name
    found = of_probes(probes) + of_trials(trials, number, names, white_box, check)
    if plan.further:
        failed = unbounded_fails(trials.further[-1], chance)
        found += [] if failed is None else [failed]
    return found


def _model(
    file: FileRef, plan: Plan, trials: AttackResults, warnings: Sequence[Finding], chance: float
) -> ModelEvaluation:
    worst = trials.worst_case
    budgets = list(enumerate(plan.budgets))
    convergence = () if plan.doubled is None else budgets
    return ModelEvaluation(
        model=file,
        clean=accuracy_figure(trials.clean),
        noise=tuple(NoiseAccuracy(eps, accuracy_figure(trials.noise[k])) for k, eps in budgets),
        robust=tuple(
            RobustAccuracy(eps, _attacks(plan, trials, k), accuracy_figure(worst[k]))
            for k, eps in budgets
        ),
        curve=_curve(plan, trials, chance),
        median_distance=None
        if plan.nearest is None
        else median_distance(_distances(plan, trials)[trials.searched]),
        convergence=tuple(
            Convergence(
                plan.attacks[0].name,
                eps,
                plan.attacks[0].steps,
                accuracy_figure(trials.alone[k]),
                accuracy_figure(trials.doubled[k]),
            )
            for k, eps in convergence
        ),
        warnings=tuple(
            Notice(finding.code.value, finding.message, finding.value) for finding in warnings
        ),
        copies=() if plan.given is None else tuple(_on_copies(trials)),
    )


def _on_copies(trials: AttackResults) -> Iterator[CopiesAccuracy]:
    for eps, counted in zip(trials.budgets, trials.counted, strict=True):
        right = trials.copied[counted]
        yield CopiesAccuracy(eps, accuracy_figure(right) if len(right) else None)


def _given(copies: Copies, trials: AttackResults) -> GivenCopies:
    """Count which copies count; they are the same for every model."""
    outside = int((~trials.in_box).sum())
    within = [
        CopiesWithin(eps, int(counted.sum()), int((~ball).sum()), outside)
        for eps, counted, ball in zip(trials.budgets, trials.counted, trials.in_ball, strict=True)
    ]
    return GivenCopies(str(copies.data.path), copies.data.sha256, tuple(within))


def _distances(plan: Plan, trials: AttackResults) -> NDArray[np.float64]:
    """Return how near a misclassified point is known to be: as searched for, or by the budgets.

    Where a search fails, a trial within a budget may still have fooled the model.
    """
    known = np.where(trials.clean, trials.distance, 0.0)
    curve = [*zip(plan.budgets, trials.worst_case, strict=True)]
    curve += zip(plan.further, trials.further, strict=True)
    for eps, right in curve:
        known = np.where(right, known, np.minimum(known, eps))
    return known


def _attacks(plan: Plan, trials: AttackResults, place: int) -> tuple[AttackAccuracy, ...]:
    left = trials.left[place]
    rows = [
        AttackAccuracy(attack.name, accuracy_figure(right))
        for attack, right in zip(plan.attacks, left, strict=True)
    ]
    if plan.check is not None and place == len(plan.budgets) - 1:
        right = left[-1] & trials.checked
        rows.append(AttackAccuracy(plan.check.name, accuracy_figure(right)))
    return tuple(rows)


def _curve(plan: Plan, trials: AttackResults, chance: float) -> tuple[CurvePoint, ...]:
    """Return the worst case from no budget to the first one that brings it to chance; and the end.

    The last point is that without a bound.
    """
    rows = [(0.0, trials.clean), *zip(plan.budgets, trials.worst_case, strict=True)]
    further = list(zip(plan.further, trials.further, strict=True))
    for place, (eps, right) in enumerate(further):
        last = place == len(further) - 1
        if rows[-1][1].mean() > chance or last:
            rows.append((eps, right))
    return tuple(CurvePoint(eps, accuracy_figure(right)) for eps, right in rows)


def _transfers(
    paths: Sequence[str], trials: Sequence[AttackResults], plan: Plan
) -> list[TransferAccuracy]:
    return [
        TransferAccuracy(
            paths[source], paths[number], eps, accuracy_figure(trials[number].crafted[source, k])
        )
        for source in range(len(paths))
        for number in range(len(paths))
        for k, eps in enumerate(plan.budgets)
        if source != number
    ]


def _comparisons(
    paths: Sequence[str], trials: Sequence[AttackResults], plan: Plan, number: int
) -> list[Comparison]:
    """Compare a model with the first one: clean, on samples crafted against the first, at worst."""
    first, other = trials[0], trials[number]
    names = (paths[0], paths[number])
    found = [Comparison(*names, "clean", None, compare(other.clean, first.clean))]
    for k, eps in enumerate(plan.budgets):
        transfer = compare(other.crafted[0, k], first.crafted[0, k])
        worst = compare(other.worst_case[k], first.worst_case[k])
        found.append(Comparison(*names, "transfer", eps, transfer))
        found.append(Comparison(*names, "worst_case", eps, worst))
    return found


def _verdicts(
    paths: Sequence[str],
    trials: Sequence[AttackResults],
    plan: Plan,
    number: int,
    warnings: Sequence[Finding],
) -> list[ModelVerdict]:
    first, other = trials[0], trials[number]
    # What puts the first model's attack in doubt makes a gain over it smaller, not larger.
    doubts = [finding.code.value for finding in warnings if finding.code not in HARMLESS]
    return [
        ModelVerdict(
            paths[0],
            paths[number],
            eps,
            judge(
                compare(other.worst_case[k], first.worst_case[k]).difference,
                static_gains=[compare(other.crafted[0, k], first.crafted[0, k]).difference],
                doubts=doubts,
                subject="the change",
            ),
        )
        for k, eps in enumerate(plan.budgets)
    ]
