"""What every verb starts from: an opened classifier, its data, and what an attacker may do."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

from cloakify.attacks import Target, ThreatModel
from cloakify.attacks.target_sessions import Followed
from cloakify.data import Copies, Dataset, Samples, Splits, open_copies, open_data, split
from cloakify.data.classes import read_names
from cloakify.data.naming import shown
from cloakify.data.open_source import shards_at
from cloakify.errors import ModelError, UsageError
from cloakify.experiment.classifier import Classifier
from cloakify.experiment.latent_input import (
    LatentInput,
    described,
    open_latent_input,
    root_mean_square,
    threats_of,
)
from cloakify.experiment.model_settings import InputSettings, find_tokenizer
from cloakify.experiment.naming_outputs import naming_outputs
from cloakify.experiment.scope import Progress as Progress
from cloakify.experiment.scope import brought_here
from cloakify.experiment.unused_options import unused_options
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.analysis.scores import describe
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.limits.stages import reading
from cloakify.numeric.arrays import Labels
from cloakify.runtime import BatchSize, Device, fitting_batch_size, resolve_device
from cloakify.settings import Setting
from cloakify.settings.programs import split_program

# Samples that two models must turn into the same values to be compared.
SAME = 4


@dataclass(frozen=True)
class Experiment:
    """A classifier with data that fits it, on a device, under a threat model.

    ``latent`` is there where samples are values of a tensor inside the graph, and ``perturbs`` says
    what attacks perturb. ``batching`` is shared by all targets, of other models too. ``inputs`` is
    how samples become what the classifier takes: read once, when the data is opened.
    """

    classifier: Classifier
    dataset: Dataset
    labels: Labels
    threat: ThreatModel
    device: Device
    setting: Setting
    perturbs: str
    batching: BatchSize
    inputs: InputSettings
    latent: LatentInput | None = None

    def splits(self) -> Splits:
        """Deal the samples into fit, select and report; exact copies of others are left out.

        A sample that is fitted on and reported on would flatter the figures, and one that is
        reported twice the intervals.

        Raises
        ------
        DataError
            There are too few distinct samples.
        """
        distinct = self.dataset.distinct
        dealt = split(len(distinct), self.labels[distinct], self.setting.run.seed)
        return Splits(*(distinct[part] for part in (dealt.fit, dealt.select, dealt.report)))

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data, and on memory, that a user should be told; more as a run goes on."""
        notes = (*self._task_notes, *self.dataset.notes, *self.batching.remark)
        if self.inputs.source is not None:
            notes = (f"inputs as {self.inputs.source} says: {self.inputs}", *notes)
        copies = len(self.dataset) - len(self.dataset.distinct)
        if not copies:
            return notes
        note = f"{copies} of {len(self.dataset)} samples are exact copies of others and left out"
        return (*notes, note)

    @property
    def _task_notes(self) -> tuple[str, ...]:
        """Say how samples are judged, where it is not by one of several logits.

        Also by which output, where others could be meant.
        """
        scores, which = self.classifier.scores, self.classifier.search.outputs.notes
        if scores.task is Task.SINGLE:
            if self.setting.data.labels != "model" or self.classifier.says_classes:
                return which
            return (
                *which,
                f"nothing says that the {scores.num_classes} numbers it answers with are scores of "
                "classes, and no labels do: an embedding's or a regression's would pass for them; "
                "--task single says so",
            )
        judged = f"judged as {describe(scores, self.classifier.search.reading.sign)}"
        if self.labels.ndim == 1 or not (self.labels.sum(axis=1) == 1).all():
            return (*which, judged)
        single = "every sample has exactly one label; --task single judges by the largest score"
        return (*which, judged, single)

    def without_copies(self) -> Experiment:
        """Return the same without samples that are exact copies: they count once in an interval."""
        labels = self.labels[self.dataset.distinct]
        return replace(self, dataset=self.dataset.without_copies(), labels=labels)

    def labelled(self, labels: Labels) -> Experiment:
        """Return the same with labels that the data does not hold: the model's own answers."""
        return replace(self, dataset=self.dataset.with_labels(labels), labels=labels)

    def with_weights(self, model: ModelProto) -> ModelProto:
        """Return an edit of the classifier's message with the classifier's weights read into it."""
        file = self.classifier.file
        return replace(file, model=model).load_weights() if file.sidecars else model

    @property
    def batch_size(self) -> int:
        """Samples in one run of a session."""
        return self.batching.now

    @property
    def spec(self) -> InputSpec:
        """What samples are fed to: the data input, or the cut graph's."""
        return self.classifier.spec if self.latent is None else self.latent.spec

    def attacked(self, model: ModelProto | None = None) -> ModelProto:
        """Return the part of the classifier, or of an edit of it, that samples go through."""
        chosen = self.classifier.model if model is None else self.with_weights(model)
        part = chosen if self.latent is None else self.latent.cut(chosen, self.classifier.scores)
        return with_class_scores(part, self.classifier.search)

    def target(self, model: ModelProto | None = None, followed: Followed | None = None) -> Target:
        """Return the classifier, or another model with the same head, as a target of attacks.

        Attacks follow its own gradients, unless it is said whose.
        """
        return Target(
            self.attacked(model),
            self.spec,
            self.classifier.scores,
            self.device,
            self.batching,
            name=self.classifier.file.path,
            followed=followed,
        )

    def copies(self, path: str | os.PathLike[str]) -> Copies:
        """Open attacked copies of the samples that a user gives.

        Raises
        ------
        UsageError
            Attacks perturb a tensor inside the graph.
        DataError
            They can't be read, or not be paired with the samples.
        """
        if self.latent is not None and not self.latent.holds_inputs:
            raise UsageError(f"--attacked takes inputs, but attacks perturb {self.perturbs}")
        here = brought_here(path)
        assert isinstance(here, str | os.PathLike)
        return open_copies(
            os.fspath(here),
            self.dataset,
            self.classifier.spec,
            self.inputs.preprocessing,
            self.inputs.fit,
            self.setting.data.encoding,
        )

    def of(self, other: Classifier) -> Experiment:
        """Return the same samples as an experiment of another classifier.

        Raises
        ------
        UsageError
            It is attacked at another tensor, or that has other values.
        """
        other = other.for_labels(self.labels, shown(os.fspath(self.dataset.path)))
        if self.latent is None and other.is_plain:
            return replace(self, classifier=other)
        paths = f"{other.file.path} and {self.classifier.file.path}"
        if self.latent is None or other.entry.kind != self.latent.entry.kind:
            raise UsageError(f"{paths} are attacked at different tensors: compare them apart")
        latent = open_latent_input(
            other.model, other.entry, other.scores, self.dataset, self.device, self.batch_size
        )
        some = self.dataset.inputs(np.arange(min(SAME, len(self.dataset))))
        alike = latent.packing.sample_shape == self.latent.packing.sample_shape
        if not alike or not np.array_equal(latent.pack(some), self.latent.pack(some)):
            raise UsageError(
                f"{paths} turn the same ids into other values ({latent.entry}): "
                "only models with one embedding can be attacked by the same samples"
            )
        return replace(self, classifier=other, latent=latent)


def open_experiment(
    classifier: Classifier,
    data: Samples,
    setting: Setting,
    label: Callable[[Experiment], Labels],
) -> Experiment:
    """Open the data, check that it fits the classifier, and label it.

    Parameters
    ----------
    label
        Returns the labels of an experiment that has none yet, where they are not the data's own.

    Raises
    ------
    ModelError
        The model's own answers are asked for, and it may have none.
    DataError
        The data can't be read or does not fit.
    UsageError
        An option is out of its range.
    DeviceError
        The device asked for can't be had.
    """
    if setting.data.labels == "model" and not classifier.is_sure:
        raise ModelError(
            f"{classifier.file.path}: answers with one number, a regression's or the logit of two "
            "classes: give labels, or --task binary where it is a logit"
        )
    device = resolve_device(setting.run.device, setting.run.threads, tf32=setting.run.tf32)
    inputs = classifier.inputs(setting.data)
    _box(classifier, setting)
    entry = classifier.entry
    (threat, *_) = threats_of(entry, (entry.input, *entry.also), setting, inputs.preprocessing)
    dataset = read_samples(classifier, data, setting, inputs, setting.data.limit)
    if classifier.is_of_classes:
        dataset = dataset.of_one_hot(classifier.scores.num_classes)
    if dataset.labels is not None:
        classifier = classifier.for_labels(dataset.labels, shown(dataset.path))
    count = classifier.scores.num_classes
    listed = setting.data.classes
    given = None
    if listed is not None:
        given = read_names(listed, count, setting.data.encoding, dataset.class_names)
    with naming_outputs(classifier.search.outputs, dataset):
        dataset = dataset.for_classes(count, given, classifier.class_names)
    told = unused_options(setting.data, dataset.forms, shown(dataset.path))
    dataset = replace(dataset, notes=(*dataset.notes, *told))
    latent = latent_input_of(classifier, dataset, setting, device)
    unit = 1.0
    if latent is not None:
        if latent.entry.kind == "embedding":
            unit = root_mean_square(latent, dataset)
        threat = latent.threat(setting, inputs.preprocessing, unit)
        dataset = dataset.packed(latent.pack, latent.packing.sample_shape)
    labels = np.empty(0, np.int64) if dataset.labels is None else dataset.labels
    perturbs = described(classifier.entry, unit)
    batching = BatchSize(_batch_size(setting, dataset, device))
    experiment = Experiment(
        classifier, dataset, labels, threat, device, setting, perturbs, batching, inputs, latent
    )
    return experiment if dataset.labels is not None else experiment.labelled(label(experiment))


def read_samples(
    classifier: Classifier,
    data: Samples,
    setting: Setting,
    inputs: InputSettings,
    limit: int | None = None,
) -> Dataset:
    """Open data as a classifier takes it, at most so many samples.

    Raises
    ------
    DataError
        The data can't be read or does not fit.
    UsageError
        An option is out of its range.
    """
    data = brought_here(data)
    with _reading(data):
        return open_data(
            data,
            classifier.spec,
            inputs.preprocessing,
            labels=setting.data.labels,
            limit=limit,
            seed=setting.run.seed,
            fit=inputs.fit,
            box=_box(classifier, setting),
            others=classifier.entry.others,
            bounded=classifier.entry.bounded,
            ids=classifier.entry.kind == "embedding",
            tokenizer=find_tokenizer(classifier.file),
            encoding=setting.data.encoding,
        )


def latent_input_of(
    classifier: Classifier, dataset: Dataset, setting: Setting, device: Device
) -> LatentInput | None:
    """Return the tensor inside the graph that is attacked, or ``None`` where the input is.

    The input is looked into as well where it or the features have the samples on another axis.
    """
    if classifier.is_plain:
        return None
    size = _batch_size(setting, dataset, device)
    return open_latent_input(
        classifier.model, classifier.entry, classifier.scores, dataset, device, size
    )


def _box(classifier: Classifier, setting: Setting) -> tuple[float, float] | None:
    """Return the range of the data that counts for what is attacked.

    Raises
    ------
    UsageError
        A range is given, and attacks perturb what it is not the range of.
    """
    box = None if classifier.entry.kind == "embedding" else setting.data.box
    if box is None and setting.data.box not in (None, (0.0, 1.0)):
        raise UsageError(f"--box bounds data, but attacks perturb {classifier.entry}")
    return box


def _reading(data: Samples) -> AbstractContextManager[None]:
    """Return the stage in which data are read; the user's own code takes what it takes."""
    if isinstance(data, str | os.PathLike) and split_program(data) is None:
        return reading(data, shards_at(Path(data)))
    return nullcontext()


def _batch_size(setting: Setting, dataset: Dataset, device: Device) -> int:
    if setting.run.batch_size is not None:
        # No batch is filled up with more copies than there are samples.
        return min(setting.run.batch_size, len(dataset))
    return fitting_batch_size(dataset.sample_shape, device)
