"""Find a classifier's head and what its scores mean, or say what a model is that is none."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto

from cloakify.errors import HeadError
from cloakify.graph.analysis.head import Head, answers_in, find_head_in
from cloakify.graph.analysis.other_models import (
    kind_without_head,
    refuse_detector,
    refuse_numbers,
    refuse_positions,
)
from cloakify.graph.analysis.task import Task, TaskReading, read_task
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.shapes import import_with_shapes


@dataclass(frozen=True)
class ClassifierSearch:
    """A classifier's head, the linear layers that were not taken, and what the scores mean."""

    head: Head
    alternatives: tuple[Head, ...]
    reading: TaskReading


def find_classifier(
    model: ModelProto, wanted: str | None = None, *, any_mixed: bool = False
) -> ClassifierSearch:
    """Find the head and the task of a classifier.

    Parameters
    ----------
    model, wanted, any_mixed
        As for :func:`~cloakify.graph.analysis.head.find_head`.

    Raises
    ------
    HeadError
        The model is no classifier, with what it is; or as ``find_head`` raises it.
    """
    graph = import_with_shapes(model)
    answers = answers_in(graph)
    if wanted is None:
        refuse_detector(answers)
    try:
        search = find_head_in(graph, model, wanted, any_mixed=any_mixed)
    except HeadError as error:
        raise HeadError(kind_without_head(graph, answers) or str(error)) from None
    scores = graph.tensors()[search.head.logits]
    reading = read_task(scores, search.head.num_classes, Constants(graph))
    refuse_positions(graph, scores, search.head)
    refuse_numbers(graph, scores, search.head, reading)
    return ClassifierSearch(search.head, search.alternatives, reading)


def single_label(search: ClassifierSearch) -> ClassifierSearch:
    """Return a search whose scores are those of one class among several.

    Raises
    ------
    HeadError
        They are one logit, or those of independent labels.
    """
    head, reading = search.head, search.reading
    if reading.task is Task.BINARY:
        raise HeadError(
            f"the head {head.node!r} has one logit, so no attack could tell two classes apart; "
            "export the model with a logit for each class (0 and the one, for a sigmoid's)"
        )
    if reading.task is Task.MULTILABEL:
        raise HeadError(
            f"{head.num_classes} independent labels ({reading.sign} is behind the scores): a "
            "multi-label model; cloakify takes classifiers, one answer a sample"
        )
    return search
