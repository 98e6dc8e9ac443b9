"""The class scores that a classifier is attacked and judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.task import MIDDLE, Boundary, Task, TaskReading

# Name, in working copies, of the two logits that one becomes.
TWO_LOGITS = "cloakify_two_logits"


@dataclass(frozen=True)
class Scores:
    """Where the logits of a classifier are, and what they mean.

    A model of two classes may have one logit z. It is attacked and judged as one with the logits
    0 and z, or where the boundary lies elsewhere ``±(z − bound)``; working copies hold them.

    Attributes
    ----------
    task
        Whether they are those of classes or of labels.
    shipped
        Name of the value in the shipped graph that holds them, or the one logit.
    logits
        Name of the value in working copies that holds a logit for each class.
    num_classes
        How many classes, or labels, there are.
    features
        Name of what the head takes.
    outputs
        Names of the outputs that may hold the model's own answer.
    boundary
        Of one logit: where class 1 begins.
    """

    task: Task
    shipped: str
    logits: str
    num_classes: int
    features: str
    outputs: tuple[str, ...]
    boundary: Boundary = MIDDLE


def scores_of(head: Head, reading: TaskReading, outputs: Sequence[str]) -> Scores:
    """Return the scores of a head."""
    binary = reading.task is Task.BINARY
    return Scores(
        task=reading.task,
        shipped=head.logits,
        logits=TWO_LOGITS if binary else head.logits,
        num_classes=2 if binary else head.num_classes,
        features=head.features,
        outputs=tuple(outputs),
        boundary=reading.boundary,
    )


def describe(scores: Scores, sign: str) -> str:
    """Say what a model answers with, and what tells so."""
    told = f" ({sign})" if sign else ""
    if scores.task is Task.SINGLE:
        return f"one of {scores.num_classes} classes{told}"
    if scores.task is Task.MULTILABEL:
        return f"any of {scores.num_classes} independent labels{told}"
    side = "from" if scores.boundary.rising else "up to"
    bound = f"class 1 {side} a probability of {scores.boundary.probability:.4g}"
    return f"one of two classes by a single logit{told}, {bound}"
