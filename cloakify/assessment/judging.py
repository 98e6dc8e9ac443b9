"""Judge a hardened model beside its source and a random control, and say what that allows."""

from __future__ import annotations

from dataclasses import dataclass

from cloakify.assessment.comparing import compare, comparing
from cloakify.assessment.harden_report import judge_mask
from cloakify.assessment.label_accuracy import attacking_labels, label_accuracy
from cloakify.assessment.masking_checks import check_masking, codes_in_doubt, over_budget
from cloakify.attacks import Attack
from cloakify.data import Splits
from cloakify.engine.engine import Engine
from cloakify.evaluation.figures import gain_figure
from cloakify.evaluation.robustness import Attacks
from cloakify.evaluation.verdict import Verdict
from cloakify.evaluation.warnings import EvaluationWarning
from cloakify.experiment.chosen_attacks import evaluation_attack, label_attack, straight_attack
from cloakify.experiment.counting import counted
from cloakify.experiment.effort import effort_of
from cloakify.experiment.experiment import Progress
from cloakify.experiment.integer_kernels import kernel_warnings
from cloakify.experiment.slopes import Slopes, slopes_of
from cloakify.experiment.subject import SOURCE, Edit, Subject
from cloakify.report.records import Accuracy, HardenLabels
from cloakify.settings import HardenSetting


@dataclass(frozen=True)
class Judgement:
    """What is to be said of a hardened model.

    Attributes
    ----------
    attack
        That judged.
    accuracy
        Of the source, the hardened model and the control.
    verdict, warnings
        What may be claimed, and what speaks against the figures.
    labels
        How independent labels fare, where samples have some.
    """

    attack: Attack
    accuracy: Accuracy
    verdict: Verdict
    warnings: tuple[EvaluationWarning, ...]
    labels: HardenLabels | None


def judge_hardened(
    subject: Subject,
    engine: Engine[Subject],
    setting: HardenSetting,
    hardened: Edit,
    control: Edit,
    splits: Splits,
    calibration: Attack,
    hides_slopes: bool,
    progress: Progress,
) -> Judgement:
    """Attack all three on the report split, and look for what puts that in doubt.

    Parameters
    ----------
    calibration
        The attack that the mask was chosen with.
    hides_slopes
        Whether the source hides slopes, so that attacks should go through steps and levels, too; a
        mask may leave nothing but what does.
    """
    effort = effort_of(setting)
    evaluation = evaluation_attack(setting, stop_early=True)
    slopes = Slopes()
    if evaluation.gradient == "white-box":
        slopes = slopes_of(subject, hardened, engine, splits.report)
        hides_slopes = hides_slopes or slopes.hide
    through = straight_attack(setting) if hides_slopes else None
    driven = evaluation_attack(setting, stop_early=False)
    attacks = Attacks(calibration, driven, evaluation, effort.onward, through)
    job = comparing(subject, (SOURCE, hardened, control), attacks, splits.report)
    correctness = compare(engine, job, counted(progress, "evaluating", job.work))
    subject.let_go()
    judging = [attack for attack in (evaluation, through) if attack is not None]
    warnings = check_masking(
        subject, engine, effort, hardened, splits, correctness[1], judging, progress
    )
    warnings += slopes.warnings
    warnings += kernel_warnings(subject, hardened, engine, splits.report)
    change = gain_figure(correctness[1].clean, correctness[0].clean)
    warnings += filter(None, [over_budget(change, setting.masking)])
    tuned = setting.masking.method == "tuned"
    accuracy, verdict = judge_mask(*correctness, doubts=codes_in_doubt(warnings), tuned=tuned)
    jobs = attacking_labels(subject, (SOURCE, hardened), label_attack(setting), splits.report)
    fared = [label_accuracy(subject, engine, job, lambda done: None) for job in jobs]
    labels = HardenLabels(*fared) if fared else None
    return Judgement(evaluation, accuracy, verdict, tuple(warnings), labels)
