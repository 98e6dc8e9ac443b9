"""The engines of a run, each for a subject."""

from __future__ import annotations

import hashlib

import onnxruntime as ort

from cloakify.engine.chunk_store import ChunkStore
from cloakify.engine.engine import Engine
from cloakify.engine.local import LocalEngine
from cloakify.engine.resuming import ResumingEngine
from cloakify.experiment.counting import counted
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.experiment.labelling import label_by_model
from cloakify.experiment.outputs import check_outputs
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Labels
from cloakify.settings import EvaluateSetting, Setting
from cloakify.version import __version__

# Besides what is marked as such, these say where the work is done; a device counts as what it is.
ASIDE = ("device", "threads")


class Engines:
    """Opens engines as settings say.

    Parameters
    ----------
    verb
        What is being done.
    setting
        How.
    progress
        Told of the work that opening an experiment takes, and of that on a part.

    Raises
    ------
    UsageError
        Options of the engine contradict each other.
    """

    def __init__(self, verb: str, setting: Setting | EvaluateSetting, progress: Progress) -> None:
        self._verb, self._setting, self._progress = verb, setting, progress
        self._options = setting.engine
        self._options.check_together()

    def on(self, subject: Subject) -> Engine[Subject]:
        """Return an engine for a subject.

        Raises
        ------
        UsageError
            The folder to resume from holds chunks of another run.
        """
        engine: Engine[Subject] = LocalEngine(subject)
        folder = self._options.resume
        if folder is None:
            return engine
        store = ChunkStore(folder, facts_of(subject, self._verb, self._setting))
        classifiers = [each.classifier for each in subject.experiments]
        check_outputs([folder / "chunk"], classifiers, subject.first.dataset.path)
        part, parts = self._options.part
        stage = f"part {part + 1} of {parts}"
        return ResumingEngine(
            engine,
            store,
            *(part, parts),
            lambda total: counted(self._progress, stage, total),
        )

    def label(self, experiment: Experiment) -> Labels:
        """Return a model's own answers to the samples of an experiment without labels."""
        subject = Subject([experiment])
        return label_by_model(subject, self.on(subject), self._progress)


def facts_of(subject: Subject, verb: str, setting: Setting | EvaluateSetting) -> dict[str, str]:
    """Return what tells a run from others whose results may differ."""
    first, files = subject.first, [each.classifier.file for each in subject.experiments]
    given = [
        f"{declared.flag} {declared.write(value)}"
        for declared, value in setting.changed()
        if not (declared.option.aside or declared.names_files or declared.name in ASIDE)
    ]
    # Of the labels that the data holds, or a list of classes puts into another order.
    labels = b"" if first.setting.data.labels == "model" else first.labels.tobytes()
    return {
        "version": f"cloakify {__version__}, ONNX Runtime {ort.__version__}",
        "verb": verb,
        "setting": ", ".join(given),
        "model": " ".join(file.sha256 for file in files),
        "data": " ".join([first.dataset.sha256, hashlib.sha256(labels).hexdigest()]),
        "attacked copies": "" if subject.copies is None else subject.copies.data.sha256,
        "preprocessing": str(first.inputs),
        "device": first.device.provider,
    }
