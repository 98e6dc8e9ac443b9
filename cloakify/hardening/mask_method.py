"""Make a model with a 0/1 mask before its head: calibrate, choose, put it in, prove it."""

from __future__ import annotations

from onnx import ModelProto

from cloakify.attacks import Attack
from cloakify.data import Splits
from cloakify.engine.engine import Engine
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.experiment.stage_times import StageTimes
from cloakify.experiment.subject import Edit, Subject
from cloakify.graph.edit.mask import insert_mask, mask_digest
from cloakify.hardening.calibration import calibrate
from cloakify.hardening.candidate import (
    HardenedCandidate,
    check_hardened,
    metadata,
    proof_samples,
    refuse,
)
from cloakify.hardening.mask_search import choose_mask
from cloakify.masking.feature_scores import random_ranking
from cloakify.masking.mask_choice import MaskChoice, choose
from cloakify.report.records import MaskInfo
from cloakify.settings import HardenSetting
from cloakify.verification.mask_edit import runtime_faults, structural_faults


def find_mask_candidate(
    subject: Subject,
    engine: Engine[Subject],
    setting: HardenSetting,
    splits: Splits,
    attack: Attack,
    clock: StageTimes,
    progress: Progress,
) -> HardenedCandidate:
    """Choose a mask, put it in, and prove that it is the only change.

    Raises
    ------
    CloakifyError
        Nothing can be chosen, see :mod:`~cloakify.hardening.calibration`, or the proof fails.
    """
    experiment = subject.first
    with clock.stage("calibrate"):
        calibration = calibrate(subject, engine, attack, splits.fit, progress)
    with clock.stage("select"):
        choice = choose_mask(subject, engine, attack, splits.select, calibration, setting, progress)
    with clock.stage("prove"):
        hardened = _insert(experiment, choice, attack)
        remarks = _prove(experiment, hardened, splits)
    info = MaskInfo(
        method="deepcloak",
        score=choice.score,
        ratio=choice.ratio,
        removed=len(choice.removed),
        total=len(choice.mask),
        indices=tuple(int(index) for index in choice.removed),
        sha256=mask_digest(choice.mask),
    )
    edit = Edit("hardened", hardened, choice.mask)
    return HardenedCandidate(edit, _control(experiment, choice), info, remarks)


def _insert(experiment: Experiment, choice: MaskChoice, attack: Attack) -> ModelProto:
    facts = {
        "mask.sha256": mask_digest(choice.mask),
        "mask.removed": str(len(choice.removed)),
        "mask.total": str(len(choice.mask)),
    }
    classifier = experiment.classifier
    return insert_mask(
        classifier.file.model, classifier.head, choice.mask, metadata(experiment, attack, facts)
    )


def _prove(experiment: Experiment, hardened: ModelProto, splits: Splits) -> tuple[str, ...]:
    """Raise ModelError unless the mask is the only change, in structure and in what is computed.

    Return remarks on what was proven.
    """
    classifier = experiment.classifier
    remarks = check_hardened(experiment, hardened)
    faults = structural_faults(classifier.file, hardened, classifier.head)
    faults += runtime_faults(
        classifier.model,
        experiment.with_weights(hardened),
        classifier.head,
        proof_samples(experiment, splits),
        experiment.device,
    )
    refuse(experiment, faults)
    return remarks


def _control(experiment: Experiment, choice: MaskChoice) -> Edit:
    """Return the source with a random mask of the same size."""
    ranking = random_ranking(len(choice.mask), experiment.setting.run.seed)
    control = choose(ranking, len(choice.removed), "random")
    classifier = experiment.classifier
    model = insert_mask(classifier.file.model, classifier.head, control.mask, {})
    return Edit("control", model, control.mask)
