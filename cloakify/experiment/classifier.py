"""An opened model file, with all that was found in it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property

from onnx import ModelProto

from cloakify.errors import DataError, HeadError, ModelError, NoClassifierError, about
from cloakify.experiment.model_settings import InputSettings, input_settings, names_of_classes
from cloakify.graph.analysis.attack_point import AttackPoint, find_attack_point
from cloakify.graph.analysis.classifier_search import ClassifierSearch, Wanted, find_classifier
from cloakify.graph.analysis.ending import Ending, ending_at
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.gates import has_gates, strip_gates
from cloakify.graph.edit.mask import find_mask, strip_mask
from cloakify.graph.gradient.coverage import Coverage, gradient_coverage
from cloakify.limits.stages import opening
from cloakify.numeric.arrays import Labels
from cloakify.onnxfile import OnnxFile, open_model, read_metadata
from cloakify.onnxfile.laid_aside import bytes_of
from cloakify.settings import DataOptions, ModelOptions


@dataclass(frozen=True)
class Classifier:
    """An opened model file and what was found in it."""

    file: OnnxFile
    entry: AttackPoint
    search: ClassifierSearch

    @property
    def head(self) -> Head:
        """The last linear layer.

        Raises
        ------
        HeadError
            There is none: the model was opened to be judged.
        """
        if self.search.head is None:
            raise HeadError(self.search.problem)
        return self.search.head

    @cached_property
    def ending(self) -> Ending:
        """Its head, or where there is none what stands in its place for gates."""
        if self.search.head is not None:
            return self.search.head
        return ending_at(self.file.outline, self.scores.shipped)

    @cached_property
    def scores(self) -> Scores:
        """What it is attacked and judged by."""
        return self.search.scores

    @property
    def is_plain(self) -> bool:
        """Whether samples come first in the one input, which is attacked, and in the features."""
        return self.entry.is_plain and not self.search.features_turned

    @property
    def is_sure(self) -> bool:
        """Whether it is known to be a classifier; one bare number may be anything."""
        return self.scores.task is not Task.BINARY or bool(self.search.reading.sign)

    @property
    def says_classes(self) -> bool:
        """Whether anything says that its numbers are scores, in the graph or beside it."""
        return bool(self.search.reading.sign) or self.class_names is not None

    @property
    def is_of_classes(self) -> bool:
        """Whether exactly one of its classes is right for sure: bare scores may be of labels."""
        task = self.scores.task
        return task is Task.BINARY or (task is Task.SINGLE and bool(self.search.reading.sign))

    def for_labels(self, labels: Labels, where: str) -> Classifier:
        """Return the classifier as labels of that form judge it.

        Bare scores may be those of classes or of labels: there the data decides.

        Parameters
        ----------
        labels
            int64 [n], or [n, K] of 0 and 1.
        where
            How messages name the data.

        Raises
        ------
        DataError
            They have another form than the model's answers.
        """
        reading, count = self.search.reading, self.scores.num_classes
        told = f" ({reading.sign})" * bool(reading.sign)
        if labels.ndim == 1:
            if self.scores.task is Task.MULTILABEL:
                raise DataError(
                    f"{where} has a class for each sample, but the model answers with {count} "
                    f"independent labels{told}: give 0 or 1 for each of them ([n, {count}]), or "
                    "pass --task single where exactly one is right"
                )
            return self
        if self.scores.task is Task.MULTILABEL:
            return self
        if labels.shape[1] == count and (labels.sum(axis=1) == 1).all():
            raise DataError(
                f"{where} has labels of shape {labels.shape}, each with a single 1, and nothing "
                f"says whether the model's {count} scores are of classes: pass --task single if "
                "these are one-hot classes, --task multilabel if each label holds by itself"
            )
        if reading.sign or self.scores.task is Task.BINARY:
            raise DataError(
                f"{where} has {labels.shape[1]} labels a sample, but the model answers with one of "
                f"{count} classes{told}: give class indices"
            )
        sign = f"labels of shape {labels.shape} in the data"
        return replace(self, search=self.search.as_labels(sign))

    def judged_as_a_whole(self) -> Classifier:
        """Return the classifier by its scores alone, where no one layer is all that makes them."""
        scores = replace(self.scores, features=self.scores.shipped)
        search = replace(self.search, head=None, scores=scores)
        return replace(self, search=search)

    @property
    def spec(self) -> InputSpec:
        """The data input."""
        return self.entry.input

    @cached_property
    def model(self) -> ModelProto:
        """The model with its weights read; a self-contained file is its own."""
        return self.file.load_weights() if self.file.sidecars else self.file.model

    def inputs(self, options: DataOptions) -> InputSettings:
        """How samples become what it takes; see :func:`input_settings`."""
        return input_settings(self.file, self.entry, options)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What its classes are called, where a file beside it or it itself says so."""
        return names_of_classes(self.file, self.scores.num_classes)

    @cached_property
    def coverage(self) -> Coverage:
        """How gradients go from what attacks perturb to the logits."""
        entry, logits = self.entry, self.scores.shipped
        more = (spec.name for spec in entry.also)
        return gradient_coverage(self.file.outline, entry.tensor, logits, *more)


def wanted_of(options: ModelOptions) -> Wanted:
    """Return what options say of a model."""
    task = None if options.task == "auto" else Task(options.task)
    return Wanted(options.head, options.output_name, task, options.threshold)


def open_classifier(
    path: str | os.PathLike[str], options: ModelOptions | None = None, *, needs_head: bool = True
) -> Classifier:
    """Open a model file and find its input, its head and its task.

    Parameters
    ----------
    options
        What is said of it.
    needs_head
        As for :func:`~cloakify.graph.analysis.classifier_search.find_classifier`.

    Raises
    ------
    ModelError
        The file is no classifier, or its head is not unique.
    UsageError
        What is said of the model does not hold.
    """
    with opening(path), about(path):
        return _classifier(open_model(path), options or ModelOptions(), needs_head=needs_head)


def open_source(
    path: str | os.PathLike[str],
    options: ModelOptions,
    *,
    replace_mask: bool,
    tuned: bool = False,
) -> Classifier:
    """Open a model that is to be hardened.

    Parameters
    ----------
    options
        What is said of it.
    replace_mask
        Take an old mask out first; without it, a hardened model is refused.
    tuned
        Whether gates are to be tuned, which needs no one head.

    Raises
    ------
    ModelError
        The model is hardened already, or no classifier.
    UsageError
        What is said of the model does not hold.
    """
    needs_head = not tuned
    try:
        classifier = open_classifier(path, options)
        needs_head = True
    except NoClassifierError:
        raise
    except HeadError as error:
        if not tuned:
            raise _with_way_out(path, options, error) from None
        classifier = open_classifier(path, options, needs_head=False).judged_as_a_whole()
    model = classifier.file.model
    installed = find_mask(model)
    gated = has_gates(model)
    if not gated and read_metadata(model).get("method") == "tuned":
        raise ModelError(f"{path}: has tuned gates folded into its weights; harden its source")
    if installed is None and not gated:
        return classifier
    if not replace_mask:
        what = "tuned gates"
        if installed is not None:
            removed = int((installed.values == 0).sum())
            what = f"{removed} of {len(installed.values)} features masked"
        raise ModelError(f"{path}: is hardened already ({what}); --replace-mask swaps the mask out")
    with opening(path), about(path):
        bare = strip_gates(model) if gated else strip_mask(model)
        content = b"".join(bytes_of(bare))
        file = replace(classifier.file, model=bare, content=content)
        classifier = _classifier(file, options, needs_head=needs_head)
        return classifier if needs_head else classifier.judged_as_a_whole()


def _with_way_out(
    path: str | os.PathLike[str], options: ModelOptions, error: HeadError
) -> HeadError:
    """Return the refusal of a mask, with what hardens the model all the same, if anything does."""
    try:
        whole = open_classifier(path, options, needs_head=False).judged_as_a_whole()
    except ModelError:
        return error
    if not find_gate_sites(whole.file.outline, whole.ending):
        return error
    return HeadError(f"{error}; --method tuned needs no one head, and tunes the layers before")


def _classifier(file: OnnxFile, options: ModelOptions, *, needs_head: bool = True) -> Classifier:
    search = find_classifier(file.outline, wanted_of(options), needs_head=needs_head)
    return Classifier(file, find_attack_point(file.outline, options.attack_input), search)
