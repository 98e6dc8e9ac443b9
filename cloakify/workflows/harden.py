"""Harden: calibrate, choose a mask, put it in, prove that it is the only change, and judge it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from cloakify.attacks import Attack
from cloakify.data import Splits, split
from cloakify.errors import ModelError
from cloakify.evaluation.robustness import Attacks, compare_targets
from cloakify.graph.mask import insert_mask, mask_digest
from cloakify.masking.scores import random_ranking
from cloakify.masking.selection import MaskChoice, choose
from cloakify.onnxfile.model import check_target, save_model
from cloakify.report.model import HardenReport
from cloakify.version import __version__
from cloakify.workflows.calibration import calibrate, choose_mask
from cloakify.workflows.clock import Clock
from cloakify.workflows.judgement import harden_report, judge_mask
from cloakify.workflows.proof import check_valid, runtime_faults, structural_faults
from cloakify.workflows.setting import HardenSetting
from cloakify.workflows.subject import (
    Progress,
    Subject,
    open_source,
    open_subject,
)

# Samples that both models are run on before the file is written.
PROOF_SAMPLES = 8


@dataclass(frozen=True)
class HardenResult:
    """What :func:`harden` made.

    Attributes
    ----------
    report
        Everything that is to be told.
    path
        The hardened file, or ``None`` where a gate was missed.
    gate
        The gate that was missed, as a sentence.
    notes
        Remarks on the data.
    class_names
        What the class indices stand for.
    """

    report: HardenReport
    path: Path | None
    gate: str | None
    notes: tuple[str, ...]
    class_names: tuple[str, ...] | None


def harden(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    setting: HardenSetting | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> HardenResult:
    """Write a hardened copy of an ONNX classifier and report what that buys.

    Parameters
    ----------
    model
        The ``.onnx`` file.
    data
        Calibration data: class folders of images, ``.npz``, ``.npy``, ``.tar`` or ``.parquet``.
    output
        Where to write; ``<stem>.hardened.onnx`` beside the source when left out.
    setting
        Everything else.
    progress
        Called as ``progress(stage, done, total)``.

    Raises
    ------
    CloakifyError
        One of its kinds; see :mod:`cloakify.errors`. No file is left behind.
    """
    setting = setting or HardenSetting()
    path = Path(model)
    target_path = path.with_suffix(".hardened.onnx") if output is None else Path(output)
    clock = Clock()
    with clock.stage("open"):
        classifier = open_source(path, setting.head, setting.replace_mask)
        check_target(target_path, classifier.file)
        subject = open_subject(classifier, data, setting, progress)
        splits = split(len(subject.dataset), subject.labels, setting.seed)
        target = subject.target()
        attack = setting.make_attack()
        evaluation = setting.evaluation_attack(stop_early=True)
    with clock.stage("calibrate"):
        statistics, head = calibrate(subject, target, attack, splits.fit, progress)
    with clock.stage("select"):
        choice = choose_mask(
            subject, target, attack, splits.select, statistics, head, setting, progress
        )
    with clock.stage("prove"):
        hardened = _insert(subject, choice, attack)
        _prove(subject, hardened, splits)
    with clock.stage("evaluate"):
        found = compare_targets(
            [target, subject.target(hardened), subject.target(_control(subject, choice))],
            Attacks(attack, setting.evaluation_attack(stop_early=False), evaluation),
            subject.threat,
            subject.dataset,
            splits.report,
            lambda done: progress("evaluating", done, len(splits.report)),
        )
        accuracy, verdict = judge_mask(*found)
    gate = setting.missed_gate(accuracy.gain.adaptive.value)
    if gate is None:
        with clock.stage("write"):
            save_model(hardened, target_path, classifier.file)
    written = None if gate else target_path
    report = harden_report(
        subject, splits, choice, (attack, evaluation), (accuracy, verdict), written, clock.seconds
    )
    return HardenResult(report, written, gate, subject.dataset.notes, subject.dataset.class_names)


def _insert(subject: Subject, choice: MaskChoice, attack: Attack) -> ModelProto:
    classifier, setting = subject.classifier, subject.setting
    metadata = {
        "version": __version__,
        "source.sha256": classifier.file.sha256,
        "head": classifier.head.node,
        "mask.sha256": mask_digest(choice.mask),
        "mask.removed": str(len(choice.removed)),
        "mask.total": str(len(choice.mask)),
        "attack": attack.name,
        "eps": f"{setting.eps:.9g}",
        "seed": str(setting.seed),
        "data.sha256": subject.dataset.sha256,
    }
    return insert_mask(classifier.file.model, classifier.head, choice.mask, metadata)


def _prove(subject: Subject, hardened: ModelProto, splits: Splits) -> None:
    """Raise ModelError unless the mask is the only change, in structure and in what is computed."""
    classifier = subject.classifier
    if not classifier.file.sidecars:
        check_valid(classifier.file.model, f"{classifier.file.path}: the model")
        check_valid(hardened, "the hardened model")
    faults = structural_faults(classifier.file, hardened, classifier.head)
    samples = classifier.spec.batch_size or PROOF_SAMPLES
    index = np.resize(splits.report, samples)
    (batch,) = subject.dataset.batches(index, samples)
    faults += runtime_faults(
        classifier.model,
        subject.with_weights(hardened),
        classifier.head,
        classifier.spec.name,
        batch.x,
        subject.device,
    )
    if faults:
        raise ModelError(f"{classifier.file.path}: the mask can't be put in: {faults[0]}")


def _control(subject: Subject, choice: MaskChoice) -> ModelProto:
    """Return the source with a random mask of the same size."""
    ranking = random_ranking(len(choice.mask), subject.setting.seed)
    control = choose(ranking, len(choice.removed), "random")
    classifier = subject.classifier
    return insert_mask(classifier.file.model, classifier.head, control.mask, {})
