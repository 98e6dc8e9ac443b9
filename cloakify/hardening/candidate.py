"""What every way to harden makes: the hardened model, a control to compare with, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.attacks import Attack
from cloakify.data import Splits
from cloakify.errors import ModelError
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.subject import Edit
from cloakify.onnxfile.preprocessing_entry import KEY as PREPROCESSING
from cloakify.onnxfile.preprocessing_entry import write_entry
from cloakify.report.records import MaskInfo
from cloakify.verification.mask_edit import check_valid
from cloakify.version import __version__

# Samples that both models are run on before the file is written.
PROOF_SAMPLES = 8


@dataclass(frozen=True)
class HardenedCandidate:
    """A hardened model that was proven, and not judged yet.

    Attributes
    ----------
    hardened
        What is to be written.
    control
        The same with the mask's or the gates' values in random order.
    mask
        What the report tells of it.
    remarks
        What a user should be told of the making.
    interrupted
        Whether the user cut the making short.
    """

    hardened: Edit
    control: Edit
    mask: MaskInfo
    remarks: tuple[str, ...] = ()
    interrupted: bool = False


def metadata(experiment: Experiment, attack: Attack, facts: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of a hardened file: where it comes from, and the facts of its mask.

    Also how its inputs are made, where that is not as if nothing had been said.
    """
    classifier = experiment.classifier
    inputs = write_entry(experiment.inputs.entry)
    return {
        "version": __version__,
        "source.sha256": classifier.file.sha256,
        "head": classifier.ending.node,
        "attack": attack.name,
        "eps": f"{experiment.setting.threat.eps:.9g}",
        "seed": str(experiment.setting.run.seed),
        "data.sha256": experiment.dataset.sha256,
        **({} if inputs is None else {PREPROCESSING: inputs}),
        **facts,
    }


def proof_samples(experiment: Experiment, splits: Splits) -> dict[str, NDArray[np.generic]]:
    """Return a few samples to run both models on: an array for each input, as they take it."""
    entry = experiment.classifier.entry
    samples = entry.input.batch_size or PROOF_SAMPLES
    return entry.as_taken(experiment.dataset.inputs(np.resize(splits.report, samples)))


def check_hardened(experiment: Experiment, hardened: ModelProto) -> tuple[str, ...]:
    """Return a remark where onnx's checker refuses the hardened model as it does its source.

    Raises
    ------
    ModelError
        It refuses the hardened model alone, or for something else.
    """
    file = experiment.classifier.file
    if file.sidecars:
        return ()
    objection = check_valid(file.model, hardened, "the hardened model")
    if objection is None:
        return ()
    return (
        "onnx's checker refuses the hardened model as it refuses the source, which ONNX Runtime "
        f"runs all the same: {objection}",
    )


def refuse(experiment: Experiment, faults: list[str]) -> None:
    """Raise ModelError if there are faults in the proof that nothing else was changed."""
    if faults:
        path = experiment.classifier.file.path
        raise ModelError(
            f"{path}: it can't be proven that nothing else was changed ({faults[0]}); no file was "
            "written"
        )
