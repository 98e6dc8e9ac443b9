"""From right and wrong answers to figures, a verdict and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloakify.assessment.device_info import device_info
from cloakify.attacks import Attack
from cloakify.attacks.given import count_outside
from cloakify.data import Copies, Splits
from cloakify.data.naming import told
from cloakify.evaluation import EvaluationWarning, Verdict, accuracy_figure, gain_figure, judge
from cloakify.evaluation.robustness import Correctness
from cloakify.evaluation.verdict import OverRandom, VerdictCode
from cloakify.experiment.classifier import Classifier
from cloakify.experiment.experiment import Experiment
from cloakify.report.records import (
    SCHEMA_VERSION,
    Accuracy,
    AttackInfo,
    ControlFigures,
    CopiesWithin,
    FileRef,
    GivenCopies,
    HardenData,
    HardenLabels,
    HardenReport,
    HeadInfo,
    MaskInfo,
    ModelFigures,
    ModelGains,
)
from cloakify.settings import HardenSetting
from cloakify.version import __version__


def judge_mask(
    source: Correctness,
    hardened: Correctness,
    control: Correctness,
    *,
    doubts: Sequence[str] = (),
    tuned: bool = False,
) -> tuple[Accuracy, Verdict]:
    """Compare the source, the hardened model, and the control with a random mask.

    Parameters
    ----------
    doubts
        Codes of warnings with which no gain may be claimed.
    tuned
        Whether it is gates that were put in, and the control has them in random order.
    """
    gain = ModelGains(
        clean=gain_figure(hardened.clean, source.clean),
        static=gain_figure(hardened.static, source.static),
        transfer=gain_figure(hardened.transfer, source.transfer),
        adaptive=gain_figure(hardened.adaptive, source.adaptive),
    )
    accuracy = Accuracy(
        source=_figures(source),
        hardened=_figures(hardened),
        gain=gain,
        random_mask=ControlFigures(
            clean=accuracy_figure(control.clean),
            transfer=accuracy_figure(control.transfer),
            adaptive=accuracy_figure(control.adaptive),
        ),
    )
    verdict = judge(
        gain.adaptive,
        static_gains=[gain.static, gain.transfer],
        over_random=OverRandom(
            transfer=gain_figure(hardened.transfer, control.transfer),
            adaptive=gain_figure(hardened.adaptive, control.adaptive),
        ),
        doubts=doubts,
        clean_gain=gain.clean,
        subject="the tuning" if tuned else "the mask",
        control="a random order of its gates" if tuned else "a random mask of the same size",
    )
    return accuracy, verdict


def missed_gate(setting: HardenSetting, adaptive_gain: float, verdict: Verdict) -> str | None:
    """Return why no file may be written, as a sentence, or ``None``.

    A user who says how much to mask gets that mask, whatever it does. Where cloakify chose, a file
    that is not harder to fool is nothing to ship.
    """
    required = setting.evaluation.require_gain
    if required is not None and adaptive_gain < required:
        return (
            f"the adaptive gain is {100 * adaptive_gain:+.1f} points, --require-gain asks for "
            f"{100 * required:+.1f}; no model was written"
        )
    tuned = setting.masking.method == "tuned"
    anyway = setting.masking.ratio is not None or setting.evaluation.write_anyway
    if anyway or verdict.code is VerdictCode.HARDENED:
        return None
    chosen = "gates that cloakify tuned have" if tuned else "mask that cloakify chose has"
    return (
        f"the {chosen} the verdict {verdict.code.value!r}, not 'hardened'; "
        "no model was written (--write-anyway writes it)"
    )


def harden_report(
    experiment: Experiment,
    splits: Splits,
    mask: MaskInfo,
    attacks: tuple[Attack, Attack],
    judged: tuple[Accuracy, Verdict, tuple[EvaluationWarning, ...]],
    output: FileRef | None,
    timing: Mapping[str, float],
    copies: GivenCopies | None,
    labels: HardenLabels | None,
    command: str,
) -> HardenReport:
    """Put the report together.

    Parameters
    ----------
    mask
        What was made.
    attacks
        The calibration attack and the evaluation attack.
    output
        The hardened file, or ``None`` where none was written; its digest is of the file alone, as
        `sha256sum` prints it, for its sidecars are called by theirs.
    timing
        Seconds by stage.
    copies
        Those that calibrated in the calibration attack's place.
    labels
        How independent labels fare, where samples have some.
    command
        What a shell repeats the run with.
    """
    classifier, dataset = experiment.classifier, experiment.dataset
    accuracy, verdict, warnings = judged
    calibration, evaluation = (_attack_info(attack, experiment) for attack in attacks)
    return HardenReport(
        schema_version=SCHEMA_VERSION,
        cloakify_version=__version__,
        source=FileRef(str(classifier.file.path), classifier.file.sha256),
        output=output,
        device=device_info(experiment.device),
        head=head_info(classifier),
        attack=calibration,
        evaluation_attack=evaluation,
        data=HardenData(
            path=told(dataset.path),
            sha256=dataset.sha256,
            fit=len(splits.fit),
            select=len(splits.select),
            report=len(splits.report),
            labels="model" if experiment.setting.data.labels == "model" else "given",
            preprocessing=experiment.inputs.told_of(experiment.dataset.forms),
            preprocessing_source=experiment.inputs.source,
            classes=dataset.class_names,
        ),
        mask=mask,
        accuracy=accuracy,
        verdict=verdict,
        warnings=warnings,
        timing=timing,
        perturbs=experiment.perturbs,
        copies=copies,
        labels=labels,
        command=command,
    )


def given_copies(copies: Copies, experiment: Experiment) -> GivenCopies:
    """Look at every copy that a user gave: which lie within the budget, and which in the box."""
    threat = experiment.threat
    outside = count_outside(copies, experiment.dataset, threat, experiment.batch_size)
    within = CopiesWithin(threat.eps, outside.counted, outside.ball, outside.box)
    return GivenCopies(told(copies.data.path), copies.data.sha256, (within,))


def head_info(classifier: Classifier) -> HeadInfo:
    """Return what a report tells of the head, or of the scores where there is none."""
    classes, scores = classifier.scores.num_classes, classifier.scores
    head = classifier.search.head
    if head is None:
        makers = {name: node for node in classifier.file.outline.graph.node for name in node.output}
        return HeadInfo(
            node=scores.shipped,
            op_type=makers[scores.shipped].op_type,
            features=scores.shipped,
            num_features=scores.shipped_count,
            logits=scores.shipped,
            num_classes=classes,
            task=scores.task.value,
        )
    return HeadInfo(
        node=head.node,
        op_type=head.op_type,
        features=head.features,
        num_features=head.num_features,
        logits=head.logits,
        num_classes=classes,
        task=scores.task.value,
    )


def _figures(correctness: Correctness) -> ModelFigures:
    return ModelFigures(
        clean=accuracy_figure(correctness.clean),
        static=accuracy_figure(correctness.static),
        transfer=accuracy_figure(correctness.transfer),
        adaptive=accuracy_figure(correctness.adaptive),
    )


def _attack_info(attack: Attack, experiment: Experiment) -> AttackInfo:
    threat = experiment.threat
    return AttackInfo(
        name=attack.name,
        norm=threat.norm,
        eps=threat.eps,
        steps=attack.steps,
        gradient=attack.gradient,
    )
