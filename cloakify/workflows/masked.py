"""Make a model with a 0/1 mask before its head: calibrate, choose, put it in, prove it."""

from __future__ import annotations

from onnx import ModelProto

from cloakify.attacks import Attack, Target
from cloakify.data import Splits
from cloakify.graph.mask import insert_mask, mask_digest
from cloakify.masking.scores import random_ranking
from cloakify.masking.selection import MaskChoice, choose
from cloakify.report.model import MaskInfo
from cloakify.workflows.calibration import calibrate
from cloakify.workflows.choosing import choose_mask
from cloakify.workflows.clock import Clock
from cloakify.workflows.making import Made, check_both, metadata, proof_samples, refuse
from cloakify.workflows.proof import runtime_faults, structural_faults
from cloakify.workflows.setting import HardenSetting
from cloakify.workflows.subject import Progress, Subject


def make_masked(
    subject: Subject,
    target: Target,
    splits: Splits,
    attack: Attack,
    clock: Clock,
    progress: Progress,
) -> Made:
    """Choose a mask, put it in, and prove that it is the only change.

    Raises
    ------
    CloakifyError
        Nothing can be chosen, see :mod:`~cloakify.workflows.calibration`, or the proof fails.
    """
    setting = subject.setting
    assert isinstance(setting, HardenSetting)
    with clock.stage("calibrate"):
        calibration = calibrate(subject, target, attack, splits.fit, progress)
    with clock.stage("select"):
        choice = choose_mask(subject, target, attack, splits.select, calibration, setting, progress)
    with clock.stage("prove"):
        hardened = _insert(subject, choice, attack)
        _prove(subject, hardened, splits)
    info = MaskInfo(
        method="deepcloak",
        score=choice.score,
        ratio=choice.ratio,
        removed=len(choice.removed),
        total=len(choice.mask),
        indices=tuple(int(index) for index in choice.removed),
        sha256=mask_digest(choice.mask),
    )
    return Made(hardened, _control(subject, choice), info)


def _insert(subject: Subject, choice: MaskChoice, attack: Attack) -> ModelProto:
    facts = {
        "mask.sha256": mask_digest(choice.mask),
        "mask.removed": str(len(choice.removed)),
        "mask.total": str(len(choice.mask)),
    }
    classifier = subject.classifier
    return insert_mask(
        classifier.file.model, classifier.head, choice.mask, metadata(subject, attack, facts)
    )


def _prove(subject: Subject, hardened: ModelProto, splits: Splits) -> None:
    """Raise ModelError unless the mask is the only change, in structure and in what is computed."""
    classifier = subject.classifier
    check_both(subject, hardened)
    faults = structural_faults(classifier.file, hardened, classifier.head)
    faults += runtime_faults(
        classifier.model,
        subject.with_weights(hardened),
        classifier.head,
        proof_samples(subject, splits),
        subject.device,
    )
    refuse(subject, faults)


def _control(subject: Subject, choice: MaskChoice) -> ModelProto:
    """Return the source with a random mask of the same size."""
    ranking = random_ranking(len(choice.mask), subject.setting.seed)
    control = choose(ranking, len(choice.removed), "random")
    classifier = subject.classifier
    return insert_mask(classifier.file.model, classifier.head, control.mask, {})
