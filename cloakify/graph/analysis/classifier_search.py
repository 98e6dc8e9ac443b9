"""Find a classifier's head and what its scores mean, or say what a model is that is none.

To attack and to judge it takes scores alone, so that where nobody needs a head there may be none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import HeadError, UsageError
from cloakify.graph.analysis.bare_scores import BareScores, find_bare_scores, refuse_answers
from cloakify.graph.analysis.grouped_scores import groups_of
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import answers_in, find_head_in, unread_outputs
from cloakify.graph.analysis.log_space import LogScores, log_scores
from cloakify.graph.analysis.order_kept import bent_scores, classes_taken_together, reordered_by
from cloakify.graph.analysis.other_models import (
    classifier_without_layer,
    leaves_positions_open,
    positions_of,
    refuse_classes_first,
    refuse_detector,
    refuse_groups,
    refuse_map,
    refuse_numbers,
    refuse_parts,
    refuse_positions,
    refuse_several_axes,
)
from cloakify.graph.analysis.sample_axis import has_samples_second
from cloakify.graph.analysis.scores import Scores, scores_at, scores_of
from cloakify.graph.analysis.task import EVEN_ODDS, Task, TaskReading, nodes_behind, read_task
from cloakify.graph.model.branches import write_out_branches
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.names import called
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
    """A classifier's head, the linear layers that were not taken, and what the scores mean.

    Attributes
    ----------
    head
        ``None`` where there is none and nobody needs one; ``problem`` then says why.
    mixed
        Whether more goes into the scores than the head's own, which is a classifier in one node:
        its probabilities have to be what they are in working copies, too.
    features_turned
        Whether the features seem to have the samples on their second axis, whatever goes in.
    positions_open
        Whether only a run tells if there is one answer a sample, or one at each of many positions.
    """

    head: Head | None
    alternatives: tuple[Head, ...]
    reading: TaskReading
    scores: Scores
    problem: str = ""
    positions_open: bool = False
    mixed: bool = False
    features_turned: bool = False

    @property
    def shipped_count(self) -> int:
        """How many numbers the shipped graph's scores have for a sample: 1 for one logit."""
        return self.scores.shipped_count

    def as_labels(self, sign: str) -> ClassifierSearch:
        """Return the same with scores that are those of independent labels, and what tells so."""
        reading = replace(self.reading, task=Task.MULTILABEL, sign=sign)
        own = self.scores
        scores = scores_at(own.shipped, self.shipped_count, reading, own.outputs)
        scores = replace(
            scores,
            features=own.features,
            # Those of labels are no shares of a whole.
            probabilities=own.probabilities and own.logs is None,
            scale=own.scale,
        )
        if self.head is not None:
            scores = scores.of_parts(self.head)
        scores = scores.with_boundary(reading.boundary)
        return replace(self, reading=reading, scores=scores)


def find_classifier(
    model: ModelProto, wanted: Wanted | None = None, *, needs_head: bool = True
) -> ClassifierSearch:
    """Find the head and the task of a classifier.

    Parameters
    ----------
    model
        The model; its weights need not be loaded.
    wanted
        What is known of it already.
    needs_head
        Whether features are to be masked. To attack or to judge any of several layers does whose
        scores are mixed, and where there is none, what the outputs are made of.

    Raises
    ------
    HeadError
        The model is no classifier, with what it is; or as
        :func:`~cloakify.graph.analysis.head_search.find_head` raises it.
    UsageError
        What is wanted the model has not.
    """
    wanted = wanted or Wanted()
    model = write_out_branches(model)
    graph = import_with_shapes(model)
    if wanted.output is not None:
        graph.outputs = [_output(graph, wanted.output)]
        # What leads to others is no reader of the scores any more.
        graph.cleanup()
    unread = unread_outputs(graph)
    answers = answers_in(graph, unread)
    if wanted.head is None:
        refuse_detector(graph, unread)
    constants = Constants(graph)
    head, alternatives, problem = _head_in(
        graph, model, wanted, answers, constants, needs_head=needs_head
    )
    if head is None or head.op_type == "SVMClassifier":
        found = find_bare_scores(answers, constants)
        head = None if head is None else replace(head, logits=found.tensor.name)
    else:
        found = BareScores(graph.tensors()[head.logits], head.num_classes, "")
    behind: BareScores | None = None
    pooled = False
    if head is not None:
        refuse_parts(found.tensor, answers)
        own, pooled = found, _stands_at_many(graph, found, answers)
        # What was named is taken as it is.
        if pooled or wanted.head is None:
            behind = _behind(graph, head, found, answers, constants, pooled=pooled)
    if head is not None and behind is not None:
        problem = _unfit(graph, head, own, behind, constants)
        if problem and needs_head:
            raise HeadError(problem)
        head = None if problem else replace(head, logits=behind.tensor.name)
        found = behind
    refuse_positions(graph, found.tensor, found.count)
    refuse_classes_first(graph, found.tensor, found.count)
    outputs = [output.name for output in graph.outputs]
    mixed = head is not None and _goes_into_others(head, found, behind)
    alone = head is not None and behind is None and not mixed
    logs = None if alone else _logs(graph, found, constants)
    if logs is not None and wanted.task is Task.MULTILABEL and not logs.of_labels:
        logs = None
    if logs is not None and logs.node is not None:
        reading = _reading_of_mixed(found, logs, constants, outputs)
    elif pooled and behind is not None and _bends_behind(own):
        reading = _reading_of_pooled(own, behind)
    else:
        bend = None if head is None else _bend_before(graph, head)
        reading = read_task(found.tensor, found.count, constants, outputs, bend)
    groups = groups_of(graph, found.tensor, found.count)
    if groups is not None:
        refuse_groups(groups)
        reading = groups.reading(wanted.task)
    else:
        reading = _checked(graph, found, reading, wanted.task, head, constants)
    if head is None:
        scores = scores_at(found.tensor.name, found.count, reading, outputs)
    else:
        scores = scores_of(head, reading, outputs)
    if mixed:
        scores = replace(scores, probabilities=False)
    if logs is not None:
        scores = scores.of_logarithms(logs)
    if groups is not None:
        scores = scores.as_pairs(groups)
    if behind is not None and not pooled and scores.task is Task.SINGLE:
        scores = replace(scores, layer=bent_scores(own.tensor, own.count, behind.count))
    scores = scores if wanted.threshold is None else scores.with_threshold(wanted.threshold)
    is_open = leaves_positions_open(graph, answers, found.count)
    turned = has_samples_second(graph.tensors()[scores.features], found.tensor)
    return ClassifierSearch(head, alternatives, reading, scores, problem, is_open, mixed, turned)


def _head_in(
    graph: gs.Graph,
    model: ModelProto,
    wanted: Wanted,
    answers: list[gs.Tensor],
    constants: Constants,
    *,
    needs_head: bool,
) -> tuple[Head | None, tuple[Head, ...], str]:
    """Return the head, what else could be it, and why there is none where nobody needs one."""
    try:
        search = find_head_in(
            graph,
            model,
            wanted.head,
            any_mixed=not needs_head,
            constants=constants,
            answers=answers,
        )
    except HeadError as error:
        refuse_map(graph, answers)
        if wanted.head is None:
            refuse_answers(answers, constants)
        problem = classifier_without_layer(graph, answers) or str(error)
        if needs_head or wanted.head is not None:
            raise HeadError(problem) from None
        return None, (), problem
    return search.head, search.alternatives, ""


def _checked(
    graph: gs.Graph,
    found: BareScores,
    reading: TaskReading,
    task: Task | None,
    head: Head | None,
    constants: Constants,
) -> TaskReading:
    """Return what scores mean, as is wanted; refuse what answers otherwise than in classes."""
    reading = reading if reading.sign else replace(reading, sign=found.sign)
    if task is not None:
        return _as_wanted(reading, found, task)
    features = None if head is None else head.num_features
    refuse_numbers(graph, found.tensor, reading, found.count, features, constants)
    refuse_several_axes(graph, found.tensor, found.count)
    return reading


def _behind(
    graph: gs.Graph,
    head: Head,
    found: BareScores,
    answers: list[gs.Tensor],
    constants: Constants,
    *,
    pooled: bool,
) -> BareScores | None:
    """Return what the answers are made of where a layer's own scores are not what counts.

    Those are at many positions or of many crops, and pooled, or what stands behind them changes
    their order.
    """
    try:
        behind = find_bare_scores(answers, constants)
    except HeadError:
        return None
    if pooled:
        is_one = behind.count == found.count and behind.tensor is not found.tensor
        return behind if is_one and not positions_of(graph, behind.tensor, behind.count) else None
    given_out = any(output.name == found.tensor.name for output in graph.outputs)
    if given_out or head.parts or head.scale or head.op_type == "SVMClassifier":
        return None
    if groups_of(graph, found.tensor, found.count) is not None:
        return None
    pair = (found.tensor, found.count, behind.tensor, behind.count)
    return behind if reordered_by(graph, *pair, constants) else None


def _goes_into_others(head: Head, found: BareScores, behind: BareScores | None) -> bool:
    """Tell whether a classifier in one node only has a part in the scores that count."""
    alone = found.tensor.name == head.linear
    other = behind is not None or (head.op_type == "SVMClassifier" and not alone)
    return bool(head.votes) or (head.gives_probabilities and other)


def _stands_at_many(graph: gs.Graph, found: BareScores, answers: list[gs.Tensor]) -> bool:
    """Tell whether a sample has scores at several positions, or of several crops or copies.

    Crops may be folded into the axis of samples, which what follows takes apart again.
    """
    if positions_of(graph, found.tensor, found.count):
        return True
    sizes = [tensor.shape[0] for tensor in (found.tensor, *answers) if tensor.shape]
    if all(isinstance(size, int) for size in sizes) and len({*sizes}) > 1:
        return True
    for node in nodes_behind(found.tensor):
        shape = node.outputs[0].shape if node.op == "Reshape" else None
        known = [size for size in shape or () if isinstance(size, int)]
        is_stack = shape is not None and len(known) < len(shape) and len(shape) > 2
        if is_stack and found.count in known and math.prod(known) > found.count:
            return True
    return False


def _unfit(
    graph: gs.Graph, head: Head, own: BareScores, behind: BareScores, constants: Constants
) -> str:
    """Say why a mask can't be chosen by a layer's own scores; empty where it can."""
    gone = classes_taken_together(graph, head, behind.tensor)
    if gone or behind.count == own.count:
        return gone
    what = reordered_by(graph, own.tensor, own.count, behind.tensor, behind.count, constants)
    return (
        f"{what} leaves {behind.count} of the {own.count} scores {own.tensor.name!r}, or others: a "
        "mask can't be chosen by these"
    )


# What makes probabilities of scores at every position.
_BENDS = {"LogSoftmax", "Sigmoid", "Softmax"}


def _bends_behind(found: BareScores) -> list[gs.Node]:
    return [node for node in nodes_behind(found.tensor) if node.op in _BENDS]


def _reading_of_pooled(found: BareScores, pooled: BareScores) -> TaskReading:
    """Return what pooled probabilities mean, by what made them."""
    bend = _bends_behind(found)[0]
    sign = f"{called(bend)}, pooled"
    if bend.op != "Sigmoid":
        return TaskReading(Task.SINGLE, sign)
    return TaskReading(Task.BINARY if pooled.count == 1 else Task.MULTILABEL, sign, EVEN_ODDS)


def _logs(graph: gs.Graph, found: BareScores, constants: Constants) -> LogScores | None:
    """Return what logits of mixed probabilities are made of, where the scores are such."""
    logs = log_scores(graph, found.tensor, constants)
    # One positive number alone is the probability of nothing.
    return None if logs is None or (found.count == 1 and not logs.of_labels) else logs


def _reading_of_mixed(
    found: BareScores, logs: LogScores, constants: Constants, outputs: Sequence[str]
) -> TaskReading:
    """Return what mixed probabilities mean: by what is done to them, or else by what made them."""
    if logs.of_labels:
        return read_task(found.tensor, found.count, constants, outputs, logs.node)
    read = read_task(found.tensor, found.count, constants, outputs)
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


def _output(graph: gs.Graph, name: str) -> gs.Tensor:
    named = [output for output in graph.outputs if output.name == name]
    if not named:
        names = ", ".join(repr(output.name) for output in graph.outputs[:5])
        raise UsageError(f"--output-name: the model has no output {name!r}; it has {names}")
    return named[0]


def _as_wanted(reading: TaskReading, found: BareScores, task: Task) -> TaskReading:
    """Return the reading with the task that a user names, which the scores must be able to have."""
    if (task is Task.BINARY) != (found.count == 1):
        logits = "one logit" if found.count == 1 else f"{found.count} logits"
        fitting = "binary" if found.count == 1 else "single or multilabel"
        raise UsageError(f"--task {task}: {found.tensor.name!r} has {logits}, which is {fitting}")
    return replace(reading, task=task, sign=f"--task {task}")
