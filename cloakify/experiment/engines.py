"""The engines of a run, each for a subject."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import astuple
from typing import TYPE_CHECKING

import onnxruntime as ort
from msgspec import UNSET, UnsetType

from cloakify.engine.chunk_store import ChunkStore
from cloakify.engine.engine import Engine
from cloakify.engine.local import LocalEngine
from cloakify.engine.resuming import ResumingEngine
from cloakify.experiment.counting import counted
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.experiment.labelling import label_by_model
from cloakify.experiment.outputs import check_outputs
from cloakify.experiment.recipe import Recipe
from cloakify.experiment.scope import current
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Labels
from cloakify.report.records import EngineInfo, WorkersInfo
from cloakify.settings import EvaluateSetting, Setting
from cloakify.version import __version__

if TYPE_CHECKING:
    from cloakify.engine.ray_cluster import RayCluster
    from cloakify.engine.ray_engine import RayEngine

# Into so many parts work is dealt that is shared: so that the last workers end at about the same
# time.
PARTS = 128

# Besides what is marked as such, these say where the work is done; a device counts as what it is.
ASIDE = ("device", "threads")


class Engines:
    """Opens engines as settings say; they last as long as the run, see :mod:`.scope`.

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
        self._scope = current()
        self._scope.progress = progress
        self._cluster: RayCluster | None = None
        self._all: list[RayEngine[Subject]] = []

    @property
    def parts(self) -> int:
        """Into how many parts to deal work on samples at least: the same for all who share it."""
        shared = self._options.engine != "local" or self._options.resume is not None
        return PARTS if shared else 1

    def on(self, subject: Subject, apart: str = "") -> Engine[Subject]:
        """Return an engine for a subject; the workers of the one before are let go.

        Parameters
        ----------
        apart
            Name of a folder of its own within the one to resume from.

        Raises
        ------
        UsageError
            The folder to resume from holds chunks of another run.
        DeviceError
            There is no Ray, or no cluster with room for a worker.
        """
        folder = self._options.resume
        store = None
        if folder is not None:
            if apart:
                with suppress(OSError):
                    folder.mkdir(exist_ok=True)
                folder /= apart
            store = ChunkStore(folder, facts_of(subject, self._verb, self._setting))
            classifiers = [each.classifier for each in subject.experiments]
            check_outputs([folder / "chunk"], classifiers, subject.first.dataset.path)
        engine: Engine[Subject] = LocalEngine(subject)
        if self._options.engine == "ray":
            engine = self._spread_out(subject)
        if store is None:
            return engine
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
        # There may be two sets of data.
        apart = f"labels-{experiment.dataset.sha256[:16]}"
        return label_by_model(subject, self.on(subject, apart), self._progress)

    @property
    def took_part(self) -> EngineInfo | UnsetType:
        """What a report says of workers; nothing where this process did all."""
        if not self._all:
            return UNSET
        kinds = Counter(kind for each in self._all for kind in each.kinds)
        return EngineInfo(
            name="ray",
            workers=tuple(WorkersInfo(count, *astuple(kind)) for kind, count in kinds.items()),
            seconds=round(sum(each.seconds for each in self._all), 3),
            again=sum(each.again for each in self._all),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should be told of what was fetched, and of workers."""
        notes = [*self._scope.notes]
        told = self.took_part
        if not isinstance(told, EngineInfo):
            return tuple(notes)
        kinds = sorted({f"{kind.provider} {kind.onnxruntime}, {kind.cpu}" for kind in told.workers})
        if len(kinds) > 1:
            listed = "; ".join(kinds)
            notes.append(f"workers differ, and with them the last bits of results: {listed}")
        if told.again:
            notes.append(f"{told.again} chunks were done again, as workers had failed or died")
        return tuple(notes)

    def _spread_out(self, subject: Subject) -> RayEngine[Subject]:
        from cloakify.engine.ray_cluster import RayCluster
        from cloakify.engine.ray_engine import RayEngine

        device = self._setting.run.device.partition(":")[0]
        on_host = device in ("cpu", "openvino")
        if self._cluster is None:
            self._cluster = RayCluster(self._options, gpus_wanted=not on_host)
            self._scope.stack.callback(self._cluster.close)
        for before in self._all:
            before.close()
        # A worker sees the GPUs that it was given, and no others.
        gpus = self._cluster.share().gpus
        given = device if on_host or gpus else "cpu"
        recipe = Recipe.of(subject, device=given)
        engine = RayEngine(self._cluster, subject, recipe)
        self._scope.stack.callback(engine.close)
        self._all.append(engine)
        return engine


def facts_of(subject: Subject, verb: str, setting: Setting | EvaluateSetting) -> dict[str, str]:
    """Return what tells a run from others whose results may differ."""
    first, further = subject.first, subject.further
    files = [each.classifier.file for each in subject.experiments]
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
        "samples without labels": "" if further is None else further.more.sha256,
        "preprocessing": str(first.inputs),
        "device": first.device.described,
    }
