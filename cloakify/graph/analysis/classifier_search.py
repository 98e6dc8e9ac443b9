"""Find a classifier's head and what its scores mean, or say what a model is that is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import HeadError, UsageError
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import answers_in, find_head_in
from cloakify.graph.analysis.other_models import (
    kind_without_head,
    refuse_detector,
    refuse_numbers,
    refuse_positions,
)
from cloakify.graph.analysis.scores import Scores, scores_of
from cloakify.graph.analysis.task import Task, TaskReading, read_task
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.shapes import import_with_shapes


@dataclass(frozen=True)
class Wanted:
    """What a user says of a model.

    Attributes
    ----------
    head
        Name of the linear node to take (or of its output).
    output
        Name of the output to take for the answer, of several.
    task
        What the scores mean; ``None`` to read it off the graph.
    threshold
        Probability from which on one logit means class 1, or that a label holds.
    """

    head: str | None = None
    output: str | None = None
    task: Task | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class ClassifierSearch:
    """A classifier's head, the linear layers that were not taken, and what the scores mean."""

    head: Head
    alternatives: tuple[Head, ...]
    reading: TaskReading
    scores: Scores

    def as_labels(self, sign: str) -> ClassifierSearch:
        """Return the same with scores that are those of independent labels, and what tells so."""
        reading = replace(self.reading, task=Task.MULTILABEL, sign=sign)
        scores = scores_of(self.head, reading, self.scores.outputs)
        return replace(self, reading=reading, scores=scores)


def find_classifier(
    model: ModelProto, wanted: Wanted | None = None, *, any_mixed: bool = False
) -> ClassifierSearch:
    """Find the head and the task of a classifier.

    Parameters
    ----------
    model
        The model; its weights need not be loaded.
    wanted
        What is known of it already.
    any_mixed
        As for :func:`~cloakify.graph.analysis.head_search.find_head`.

    Raises
    ------
    HeadError
        The model is no classifier, with what it is; or as ``find_head`` raises it.
    UsageError
        What is wanted the model has not.
    """
    wanted = wanted or Wanted()
    graph = import_with_shapes(model)
    if wanted.output is not None:
        graph.outputs = [_output(graph, wanted.output)]
    answers = answers_in(graph)
    if wanted.head is None:
        refuse_detector(graph, answers)
    try:
        search = find_head_in(graph, model, wanted.head, any_mixed=any_mixed)
    except HeadError as error:
        raise HeadError(kind_without_head(graph, answers) or str(error)) from None
    head = search.head
    logits = graph.tensors()[head.logits]
    refuse_positions(graph, logits, head)
    reading = read_task(logits, head.num_classes, Constants(graph))
    if wanted.task is None:
        refuse_numbers(graph, logits, head, reading)
    else:
        reading = _as_wanted(reading, head, wanted.task)
    scores = scores_of(head, reading, [output.name for output in graph.outputs])
    if wanted.threshold is not None:
        scores = _with_threshold(scores, wanted.threshold)
    return ClassifierSearch(head, search.alternatives, reading, scores)


def _output(graph: gs.Graph, name: str) -> gs.Tensor:
    named = [output for output in graph.outputs if output.name == name]
    if not named:
        names = ", ".join(repr(output.name) for output in graph.outputs[:5])
        raise UsageError(f"--output-name: the model has no output {name!r}; it has {names}")
    return named[0]


def _as_wanted(reading: TaskReading, head: Head, task: Task) -> TaskReading:
    """Return the reading with the task that a user names, which the head must be able to have."""
    if (task is Task.BINARY) != (head.num_classes == 1):
        logits = "one logit" if head.num_classes == 1 else f"{head.num_classes} logits"
        fitting = "binary" if head.num_classes == 1 else "single or multilabel"
        raise UsageError(f"--task {task}: the head {head.node!r} has {logits}, which is {fitting}")
    return replace(reading, task=task, sign=f"--task {task}")


def _with_threshold(scores: Scores, threshold: float) -> Scores:
    """Return scores with another boundary, by which the model's own answers are no measure."""
    if scores.task is Task.SINGLE:
        raise UsageError("--threshold is for a single logit, or those of labels; this has classes")
    bound = math.log(threshold) - math.log1p(-threshold)
    boundary = replace(scores.boundary, bounds=(bound,))
    outputs = scores.outputs if boundary == scores.boundary else ()
    return replace(scores.with_boundary(boundary), outputs=outputs)
