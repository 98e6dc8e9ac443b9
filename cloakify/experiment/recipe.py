"""How to open a subject again: in another process, on another machine, where the same files are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cloakify.attacks import ThreatModel
from cloakify.data import Copies
from cloakify.data.copies import read_copies
from cloakify.data.naming import shown
from cloakify.data.patterns import is_pattern
from cloakify.errors import DataError, ModelError, UsageError
from cloakify.experiment.classifier import Classifier, open_classifier, open_source
from cloakify.experiment.experiment import Experiment, look_inside, read_samples
from cloakify.experiment.model_settings import InputSettings
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Indices, Labels
from cloakify.runtime import BatchSize, resolve_device
from cloakify.settings import Setting
from cloakify.settings.programs import names_module, split_program

Places = Mapping[Path, Path]
"""Where files lie here, by where they lie for whoever made the recipe."""


@dataclass(frozen=True)
class ModelPlace:
    """A model's file: where it lies, its digest, and whether an old mask was taken out of it."""

    path: Path
    sha256: str
    bare: bool


@dataclass(frozen=True)
class CopiesPlace:
    """Attacked copies: where they lie, their digest, and which of them belongs to each sample."""

    path: Path
    sha256: str
    place: Indices


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that it takes to open a subject again; what was found out once is part of it.

    Attributes
    ----------
    models, data, copies
        The files.
    needs_head, masked
        As of the subject.
    setting
        How they are read, attacked and run.
    rows, labels, sha256
        Which samples of the data count, their labels, and their digest.
    inputs, threat, perturbs, batch_size
        As the experiment has them.
    shares
        Among how many work is dealt on a CPU.
    """

    models: tuple[ModelPlace, ...]
    needs_head: bool
    masked: bool
    data: Path
    copies: CopiesPlace | None
    setting: Setting
    rows: Indices
    labels: Labels
    sha256: str
    inputs: InputSettings
    threat: ThreatModel
    perturbs: str
    batch_size: int
    shares: int

    @classmethod
    def of(cls, subject: Subject, device: str) -> Recipe:
        """Return the recipe of a subject, to be opened on a device.

        Raises
        ------
        UsageError
            Its data are no files, nor what a program yields.
        """
        first, copies = subject.first, subject.copies
        setting = first.setting.replace(device=device)
        if os.path.isfile(setting.data.labels):
            setting = setting.replace(labels=os.path.abspath(setting.data.labels))
        files = [each.classifier.file for each in subject.experiments]
        return cls(
            models=tuple(
                ModelPlace(file.path.absolute(), file.sha256, file.content is not None)
                for file in files
            ),
            needs_head=subject.needs_head,
            masked=subject.masked,
            data=place_for_all(first.dataset.path),
            copies=None
            if copies is None
            else CopiesPlace(place_for_all(copies.data.path), copies.data.sha256, copies.place),
            setting=setting,
            rows=first.dataset.rows,
            labels=first.labels,
            sha256=first.dataset.sha256,
            inputs=first.inputs,
            threat=first.threat,
            perturbs=first.perturbs,
            batch_size=first.batching.first,
            shares=first.device.cores if first.device.kind == "cpu" else 0,
        )

    @property
    def files(self) -> list[Path]:
        """Files that may be sent along, where they are small: of models those of one file."""
        places = [model.path for model in self.models]
        places += [self.data] if self.copies is None else [self.data, self.copies.path]
        return [place for place in places if place.is_file()]

    def open(self, places: Places, threads: int) -> Subject:
        """Open the subject.

        Parameters
        ----------
        places
            Where files lie that lie elsewhere here.
        threads
            How many cores to use.

        Raises
        ------
        ModelError, DataError
            A file can't be read here, or is another one.
        DeviceError
            The device asked for can't be had here.
        """
        classifiers = [self._classifier(model, places) for model in self.models]
        first = self._first(classifiers[0], places.get(self.data, self.data), threads)
        experiments = [first, *(first.of(other) for other in classifiers[1:])]
        return Subject(
            experiments,
            self._copies(first, places),
            masked=self.masked,
            needs_head=self.needs_head,
        )

    def _classifier(self, model: ModelPlace, places: Places) -> Classifier:
        path, options = places.get(model.path, model.path), self.setting.model
        if model.bare:
            classifier = open_source(path, options, replace_mask=True)
        else:
            classifier = open_classifier(path, options, needs_head=self.needs_head)
        if classifier.file.sha256 != model.sha256:
            raise ModelError(f"{path}: is another file here than where the run was started")
        return classifier

    def _first(self, classifier: Classifier, data: Path, threads: int) -> Experiment:
        setting = self.setting
        run = setting.replace(batch_size=self.batch_size, threads=threads)
        device = replace(resolve_device(setting.run.device, threads), shares=self.shares)
        dataset = read_samples(classifier, data, setting, self.inputs)
        if len(self.rows) and int(self.rows.max()) >= dataset.total:
            raise DataError(f"{shown(data)} has fewer samples here than where the run was started")
        dataset = dataset.known(self.rows, self.labels, self.sha256)
        if setting.data.labels != "model":
            classifier = classifier.for_labels(self.labels, shown(data))
        inside = look_inside(classifier, dataset, run, device)
        if inside is not None:
            dataset = dataset.packed(inside.pack, inside.packing.sample_shape)
        return Experiment(
            classifier=classifier,
            dataset=dataset,
            labels=self.labels,
            threat=self.threat,
            device=device,
            setting=setting,
            perturbs=self.perturbs,
            batching=BatchSize(self.batch_size),
            inputs=self.inputs,
            inside=inside,
        )

    def _copies(self, first: Experiment, places: Places) -> Copies | None:
        if self.copies is None:
            return None
        path = places.get(self.copies.path, self.copies.path)
        preprocessing, fit = self.inputs.preprocessing, self.inputs.fit
        data = read_copies(path, first.classifier.spec, preprocessing, fit)
        if data.sha256 != self.copies.sha256:
            raise DataError(f"{shown(path)} holds other copies here than where the run was started")
        return Copies(data, self.copies.place)


def place_for_all(path: Path) -> Path:
    """Return where samples are, for another process in another folder.

    Raises
    ------
    UsageError
        They are nowhere: an iterable of this process.
    """
    if names_module(path):
        return path
    if not path.exists() and split_program(path) is None and not is_pattern(path):
        raise UsageError(
            f"workers can't open {path}, which this process alone has: give --engine ray a path, a "
            "pattern of files or script.py:function"
        )
    # Not by following links: what they lead to may lie elsewhere on another machine.
    return path.absolute()
