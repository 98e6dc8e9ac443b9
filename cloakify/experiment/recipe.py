"""How to open a subject again: in another process, on another machine, where the same files are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cloakify.attacks import ThreatModel
from cloakify.data import Copies, Dataset
from cloakify.data.copies import read_copies
from cloakify.data.naming import shown
from cloakify.data.patterns import is_pattern, root
from cloakify.data.unlabelled import Unlabelled
from cloakify.data.zip_files import is_file, zip_at
from cloakify.errors import DataError, ModelError, UsageError
from cloakify.experiment.classifier import Classifier, open_classifier, open_source
from cloakify.experiment.experiment import Experiment, latent_input_of, read_samples
from cloakify.experiment.latent_input import LatentInput
from cloakify.experiment.model_settings import InputSettings
from cloakify.experiment.scope import brought_here, url_behind
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Indices, Labels
from cloakify.runtime import BatchSize, Device, resolve_device
from cloakify.settings import Setting
from cloakify.settings.programs import names_module, split_program

Places = Mapping[Path, Path]
"""Where files lie here, by where they lie for whoever made the recipe."""


@dataclass(frozen=True)
class ModelPlace:
    """A model's file: where it lies, its digest, and whether an old mask was taken out of it.

    ``whole`` is whether it is judged by its scores, without a head.
    """

    path: Path
    sha256: str
    bare: bool
    whole: bool = False


@dataclass(frozen=True)
class CopiesPlace:
    """Attacked copies: where they lie, their digest, and which of them belongs to each sample."""

    path: Path
    sha256: str
    place: Indices


@dataclass(frozen=True)
class FurtherPlace:
    """Samples without labels: where they lie, which of them count, and what the model answers."""

    path: Path
    rows: Indices
    labels: Labels
    sha256: str
    kept: Indices

    @classmethod
    def of(cls, further: Unlabelled) -> FurtherPlace:
        """Return where such samples are."""
        more, labels = further.more, further.more.labels
        given = np.empty(0, np.int64) if labels is None else labels
        return cls(place_for_all(more.path), more.rows, given, more.sha256, further.kept)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that it takes to open a subject again; what was found out once is part of it.

    Attributes
    ----------
    models, data, copies, further
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
    urls
        Of what the driver has fetched, by where its copies lie.
    """

    models: tuple[ModelPlace, ...]
    needs_head: bool
    masked: bool
    data: Path
    copies: CopiesPlace | None
    further: FurtherPlace | None
    setting: Setting
    rows: Indices
    labels: Labels
    sha256: str
    inputs: InputSettings
    threat: ThreatModel
    perturbs: str
    batch_size: int
    shares: int
    urls: Mapping[Path, str]

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
        labels = setting.data.labels
        if labels not in ("given", "model") and is_file(Path(labels)):
            setting = setting.replace(labels=os.path.abspath(labels))
        classifiers = [each.classifier for each in subject.experiments]
        paths = [first.dataset.path]
        paths += [] if copies is None else [copies.data.path]
        paths += [] if subject.further is None else [subject.further.more.path]
        return cls(
            models=tuple(
                ModelPlace(
                    each.file.path.absolute(),
                    each.file.sha256,
                    each.file.content is not None,
                    each.search.head is None,
                )
                for each in classifiers
            ),
            needs_head=subject.needs_head,
            masked=subject.masked,
            data=place_for_all(first.dataset.path),
            copies=None
            if copies is None
            else CopiesPlace(place_for_all(copies.data.path), copies.data.sha256, copies.place),
            further=None if subject.further is None else FurtherPlace.of(subject.further),
            setting=setting,
            rows=first.dataset.rows,
            labels=first.labels,
            sha256=first.dataset.sha256,
            inputs=first.inputs,
            threat=first.threat,
            perturbs=first.perturbs,
            batch_size=first.batching.first,
            shares=first.device.cores if first.device.kind == "cpu" else 0,
            urls={path: url for path in paths if (url := url_behind(path)) is not None},
        )

    @property
    def files(self) -> list[Path]:
        """Files that may be sent along, where they are small: of models those of one file."""
        places = [model.path for model in self.models]
        others = (self.copies, self.further)
        places += [self.data, *(other.path for other in others if other is not None)]
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
        places = {**self._fetched(places), **places}
        classifiers = [self._classifier(model, places) for model in self.models]
        first = self._first(classifiers[0], places.get(self.data, self.data), threads)
        experiments = [first, *(first.of(other) for other in classifiers[1:])]
        return Subject(
            experiments,
            self._copies(first, places),
            self._further(first, places, threads),
            masked=self.masked,
            needs_head=self.needs_head,
        )

    def _fetched(self, places: Places) -> Places:
        """Fetch what the driver has fetched, where its copy is not to be had here."""
        fetched = {}
        for path, url in self.urls.items():
            # A pattern is no file: what it stands for lies in the folder that the copy was put in.
            if path not in places and not _above(path).exists():
                here = brought_here(url)
                assert isinstance(here, Path)
                fetched[path] = here
        return fetched

    def _classifier(self, model: ModelPlace, places: Places) -> Classifier:
        path, options = places.get(model.path, model.path), self.setting.model
        if model.bare:
            classifier = open_source(path, options, replace_mask=True, tuned=model.whole)
        else:
            classifier = open_classifier(path, options, needs_head=self.needs_head)
        if model.whole:
            classifier = classifier.judged_as_a_whole()
        if classifier.file.sha256 != model.sha256:
            raise ModelError(f"{path}: is another file here than where the run was started")
        return classifier

    def _first(self, classifier: Classifier, data: Path, threads: int) -> Experiment:
        setting = self.setting
        device = resolve_device(setting.run.device, threads, tf32=setting.run.tf32)
        device = replace(device, shares=self.shares)
        dataset = read_samples(classifier, data, setting, self.inputs)
        dataset = _known(dataset, self.rows, self.labels, self.sha256)
        if setting.data.labels != "model":
            classifier = classifier.for_labels(self.labels, shown(data))
        latent = self._latent(classifier, dataset, device, threads)
        return Experiment(
            classifier=classifier,
            dataset=_packed(dataset, latent),
            labels=self.labels,
            threat=self.threat,
            device=device,
            setting=setting,
            perturbs=self.perturbs,
            batching=BatchSize(self.batch_size),
            inputs=self.inputs,
            latent=latent,
        )

    def _latent(
        self, classifier: Classifier, dataset: Dataset, device: Device, threads: int
    ) -> LatentInput | None:
        run = self.setting.replace(batch_size=self.batch_size, threads=threads)
        return latent_input_of(classifier, dataset, run, device)

    def _further(self, first: Experiment, places: Places, threads: int) -> Unlabelled | None:
        further = self.further
        if further is None:
            return None
        path = places.get(further.path, further.path)
        plain = self.setting.replace(labels="model", limit=None)
        more = read_samples(first.classifier, path, plain, self.inputs)
        more = _known(more, further.rows, further.labels, further.sha256)
        latent = self._latent(first.classifier, more, first.device, threads)
        return Unlabelled(first.dataset, _packed(more, latent), further.kept)

    def _copies(self, first: Experiment, places: Places) -> Copies | None:
        if self.copies is None:
            return None
        path = places.get(self.copies.path, self.copies.path)
        preprocessing, fit = self.inputs.preprocessing, self.inputs.fit
        data = read_copies(
            path, first.classifier.spec, preprocessing, fit, self.setting.data.encoding
        )
        if data.sha256 != self.copies.sha256:
            raise DataError(f"{shown(path)} holds other copies here than where the run was started")
        return Copies(data, self.copies.place)


def _known(dataset: Dataset, rows: Indices, labels: Labels, sha256: str) -> Dataset:
    """Return the samples that count, with labels that are known."""
    if len(rows) and int(rows.max()) >= dataset.total:
        raise DataError(
            f"{shown(dataset.path)} has fewer samples here than where the run was started"
        )
    return dataset.known(rows, labels, sha256)


def _above(path: Path) -> Path:
    """Return the path, or of a pattern the folder that all that it stands for lies in."""
    return root(path) if is_pattern(path) else path


def _packed(dataset: Dataset, latent: LatentInput | None) -> Dataset:
    if latent is None:
        return dataset
    return dataset.packed(latent.pack, latent.packing.sample_shape)


def place_for_all(path: Path) -> Path:
    """Return where samples are, for another process in another folder.

    Raises
    ------
    UsageError
        They are nowhere: an iterable of this process.
    """
    if names_module(path):
        return path
    is_there = path.exists() or zip_at(path) is not None
    if not is_there and split_program(path) is None and not is_pattern(path):
        raise UsageError(
            f"workers can't open {path}, which this process alone has: give --engine ray a path, a "
            "pattern of files or script.py:function"
        )
    # Not by following links: what they lead to may lie elsewhere on another machine.
    return path.absolute()
