"""What the scores mean that a model is judged by: classes, one logit, or independent labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from cloakify.errors import UsageError
from cloakify.graph.analysis.bare_scores import BareScores
from cloakify.graph.analysis.grouped_scores import Groups, groups_of
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.log_space import LogScores, log_scores
from cloakify.graph.analysis.other_models import (
    refuse_groups,
    refuse_numbers,
    refuse_several_axes,
)
from cloakify.graph.analysis.score_choice import ChosenScores
from cloakify.graph.analysis.task import EVEN_ODDS, Task, TaskReading, nodes_behind, read_task
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.names import called

# What makes probabilities of scores at every position.
_BENDS = {"LogSoftmax", "Sigmoid", "Softmax"}


@dataclass(frozen=True)
class Meaning:
    """What scores mean.

    Attributes
    ----------
    reading
        The task, and what tells so.
    logs
        What logits are made of, where the scores are mixed probabilities.
    groups
        Of scores of which one is chosen in each of several groups: these.
    """

    reading: TaskReading
    logs: LogScores | None
    groups: Groups | None


def read_meaning(
    graph: gs.Graph, chosen: ChosenScores, constants: Constants, task: Task | None
) -> Meaning:
    """Read off a graph what scores mean.

    Parameters
    ----------
    task
        What a user says that they do; ``None`` where nothing is said.

    Raises
    ------
    HeadError
        They are no scores of classes or labels.
    UsageError
        They can't mean what the user says.
    """
    scores, outputs = chosen.scores, [output.name for output in graph.outputs]
    logs = None if chosen.are_the_layers else _logs(graph, scores, constants)
    if logs is not None and task is Task.MULTILABEL and not logs.of_labels:
        logs = None
    groups = groups_of(graph, scores.tensor, scores.count)
    if groups is not None:
        refuse_groups(groups)
        return Meaning(groups.reading(task), logs, groups)
    layer = chosen.layer
    if logs is not None and logs.node is not None:
        reading = _reading_of_mixed(scores, logs, constants, outputs)
    elif chosen.pooled and layer is not None and _bends_behind(layer):
        reading = _reading_of_pooled(layer, scores)
    else:
        bend = None if chosen.head is None else _bend_before(graph, chosen.head)
        reading = read_task(scores.tensor, scores.count, constants, outputs, bend)
    return Meaning(_checked(graph, scores, reading, task, chosen.head, constants), logs, None)


def _checked(
    graph: gs.Graph,
    scores: BareScores,
    reading: TaskReading,
    task: Task | None,
    head: Head | None,
    constants: Constants,
) -> TaskReading:
    """Return what scores mean, as is wanted; refuse what answers otherwise than in classes."""
    reading = reading if reading.sign else replace(reading, sign=scores.sign)
    if task is not None:
        return _as_wanted(reading, scores, task)
    features = None if head is None else head.num_features
    refuse_numbers(graph, scores.tensor, reading, scores.count, features, constants)
    refuse_several_axes(graph, scores.tensor, scores.count)
    return reading


def _bends_behind(scores: BareScores) -> list[gs.Node]:
    return [node for node in nodes_behind(scores.tensor) if node.op in _BENDS]


def _reading_of_pooled(layer: BareScores, pooled: BareScores) -> TaskReading:
    """Return what pooled probabilities mean, by what made them."""
    bend = _bends_behind(layer)[0]
    sign = f"{called(bend)}, pooled"
    if bend.op != "Sigmoid":
        return TaskReading(Task.SINGLE, sign)
    return TaskReading(Task.BINARY if pooled.count == 1 else Task.MULTILABEL, sign, EVEN_ODDS)


def _logs(graph: gs.Graph, scores: BareScores, constants: Constants) -> LogScores | None:
    """Return what logits of mixed probabilities are made of, where the scores are such."""
    logs = log_scores(graph, scores.tensor, constants)
    # One positive number alone is the probability of nothing.
    return None if logs is None or (scores.count == 1 and not logs.of_labels) else logs


def _reading_of_mixed(
    scores: BareScores, logs: LogScores, constants: Constants, outputs: Sequence[str]
) -> TaskReading:
    """Return what mixed probabilities mean: by what is done to them, or else by what made them."""
    if logs.of_labels:
        return read_task(scores.tensor, scores.count, constants, outputs, logs.node)
    read = read_task(scores.tensor, scores.count, constants, outputs)
    if read.task is Task.SINGLE and read.sign:
        return read
    sign = "" if logs.node is None else f"{called(logs.node)}, mixed"
    return TaskReading(Task.SINGLE, sign)


def _bend_before(graph: gs.Graph, head: Head) -> gs.Node | None:
    """Return what bends a head's scores one by one before they stand side by side, if they are."""
    if not head.parts:
        return None
    part = graph.tensors()[head.parts[0]]
    if head.gives_probabilities:
        return next(iter(part.inputs))
    return next((node for node in nodes_behind(part) if node.op in _BENDS), None)


def _as_wanted(reading: TaskReading, scores: BareScores, task: Task) -> TaskReading:
    """Return the reading with the task that a user names, which the scores must be able to have."""
    if (task is Task.BINARY) != (scores.count == 1):
        logits = "one logit" if scores.count == 1 else f"{scores.count} logits"
        fitting = "binary" if scores.count == 1 else "single or multilabel"
        raise UsageError(f"--task {task}: {scores.tensor.name!r} has {logits}, which is {fitting}")
    return replace(reading, task=task, sign=f"--task {task}")
