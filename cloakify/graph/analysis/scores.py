"""The class scores that a classifier is attacked and judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloakify.errors import UsageError
from cloakify.graph.analysis.grouped_scores import Groups
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.log_space import LogScores
from cloakify.graph.analysis.task import MIDDLE, Boundary, Task, TaskReading

# Name, in working copies, of the logits that the shipped ones become.
CLASS_LOGITS = "cloakify_class_logits"


@dataclass(frozen=True)
class Scores:
    """Where the logits of a classifier are, and what they mean.

    A model of two classes may have one logit z. It is attacked and judged as one with the logits
    0 and z, or where the boundary lies elsewhere ``±(z − bound)``; so are labels, each of which
    holds where its logit is above 0 then. Working copies hold them.

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
        Name of what the head takes; without a head, of the scores themselves.
    outputs
        Names of the outputs that may hold the model's own answer.
    boundary
        Of one logit, and of those of labels: where class 1 begins.
    pairs
        Of labels that each have two scores, one of no and one of yes: ``last`` where those of a
        label stand side by side, ``first`` where all of no stand before all of yes.
    scale
        Of a ``shipped`` of quantised numbers: the names of their scale and zero point.
    parts
        Of a ``shipped`` that was bent one by one: the values that hold the scores before, which
        the logits are put together of.
    places
        Of parts that are what classifiers of ai.onnx.ml put out, which may be probabilities: the
        column of each. The scores before stand in none of the file's values.
    logs
        Of a ``shipped`` that mixes probabilities: the steps that make the logits, and their name.
    probabilities
        Whether ``shipped`` comes out as probabilities, though working copies hold logits.
    layer
        Of a ``shipped`` of classes that bends a layer's own scores, so that the largest of these
        need not be its largest: the name of the value [N, K], K up to C, that holds them. Empty
        elsewhere.
    """

    task: Task
    shipped: str
    logits: str
    num_classes: int
    features: str
    outputs: tuple[str, ...]
    boundary: Boundary = MIDDLE
    probabilities: bool = False
    scale: tuple[str, str] | None = None
    parts: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    pairs: Literal["", "first", "last"] = ""
    logs: LogScores | None = None
    layer: str = ""

    @property
    def shipped_count(self) -> int:
        """How many numbers the shipped graph's scores have for a sample: 1 for one logit."""
        if self.task is Task.BINARY:
            return 1
        return self.num_classes * (2 if self.pairs else 1)

    def as_pairs(self, groups: Groups) -> Scores:
        """Return the same as the scores of labels that each have two."""
        order: Literal["first", "last"] = "last" if groups.classes_last else "first"
        return replace(self, num_classes=groups.count, pairs=order, logits=CLASS_LOGITS)

    def of_logarithms(self, logs: LogScores) -> Scores:
        """Return the same with logits that are made of a mixture's logarithms."""
        return replace(self, logs=logs, probabilities=True).with_boundary(self.boundary)

    def of_parts(self, head: Head) -> Scores:
        """Return the same with what a head of several parts puts side by side.

        Whole classifiers have their scores under the same name where gradients are taken, and which
        is the largest probabilities tell as well; but not whether a label holds.
        """
        whole = head.gives_probabilities
        if whole and self.task is not Task.MULTILABEL:
            return self
        return replace(self, parts=head.parts, places=head.places if whole else ())

    def differences(self) -> NDArray[np.float64] | None:
        """Return [shipped_count, K], which makes the K labels' logits of pairs of scores.

        ``None`` where there are no pairs.
        """
        if not self.pairs:
            return None
        one = np.eye(self.num_classes)
        if self.pairs == "first":
            return np.concatenate([-one, one])
        return np.stack([-one, one], axis=1).reshape(-1, self.num_classes)

    def with_boundary(self, boundary: Boundary) -> Scores:
        """Return the same with another boundary."""
        shipped_otherwise = self.scale is not None or bool(self.parts or self.pairs or self.logs)
        remade = self.task is Task.BINARY or boundary != MIDDLE or shipped_otherwise
        logits = CLASS_LOGITS if remade else self.shipped
        return replace(self, logits=logits, boundary=boundary)

    def with_threshold(self, threshold: float) -> Scores:
        """Return the same with another boundary, by which the model's own answers are no measure.

        Parameters
        ----------
        threshold
            Probability from which on class 1, or a label, holds.

        Raises
        ------
        UsageError
            They are those of several classes.
        """
        if self.task is Task.SINGLE:
            raise UsageError(
                "--threshold is for a single logit, or those of labels; this has classes"
            )
        bound = math.log(threshold) - math.log1p(-threshold)
        if self.boundary.of_probability:
            bound = threshold
        boundary = replace(self.boundary, bounds=(bound,))
        outputs = self.outputs if boundary == self.boundary else ()
        return replace(self.with_boundary(boundary), outputs=outputs)


def scores_of(head: Head, reading: TaskReading, outputs: Sequence[str]) -> Scores:
    """Return the scores of a head."""
    scores = scores_at(head.logits, head.num_classes, reading, outputs)
    scores = replace(
        scores,
        features=head.features,
        probabilities=head.gives_probabilities,
        scale=head.scale,
    )
    return scores.of_parts(head).with_boundary(reading.boundary)


def scores_at(shipped: str, count: int, reading: TaskReading, outputs: Sequence[str]) -> Scores:
    """Return the scores that a value of that name holds, ``count`` for a sample."""
    scores = Scores(
        task=reading.task,
        shipped=shipped,
        logits=shipped,
        num_classes=2 if reading.task is Task.BINARY else count,
        features=shipped,
        outputs=tuple(outputs),
    )
    return scores.with_boundary(reading.boundary)


def describe(scores: Scores, sign: str) -> str:
    """Say what a model answers with, and what tells so."""
    told = f" ({sign})" if sign else ""
    if scores.task is Task.SINGLE:
        told = told or ", as nothing says otherwise"
        return f"one of {scores.num_classes} classes{told}"
    side = "from" if scores.boundary.rising else "up to"
    bounds = [f"{share:.4g}" for share in scores.boundary.probabilities]
    listed = ", ".join(bounds[:5]) + ", …" * (len(bounds) > 5)
    if scores.task is Task.MULTILABEL:
        labels = f"any of {scores.num_classes} independent labels{told}"
        return f"{labels}, each {side} a probability of {listed}"
    return f"one of two classes by a single logit{told}, class 1 {side} a probability of {listed}"
