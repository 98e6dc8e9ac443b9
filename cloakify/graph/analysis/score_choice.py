"""Which scores a model is judged by: a linear layer's own, or what its answers are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from cloakify.errors import HeadError
from cloakify.graph.analysis.bare_scores import BareScores, find_bare_scores
from cloakify.graph.analysis.grouped_scores import groups_of
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.order_kept import classes_taken_together, reordered_by
from cloakify.graph.analysis.other_models import positions_of, refuse_parts
from cloakify.graph.analysis.task import nodes_behind
from cloakify.graph.model.constants import Constants


@dataclass(frozen=True)
class ChosenScores:
    """The scores that a model is judged by.

    Attributes
    ----------
    head
        The layer that makes them, if a mask may be chosen by it.
    scores
        They themselves.
    layer
        What the layer puts out, where others are made of that which count in its place.
    pooled
        Whether a sample has scores at many positions, or of many crops.
    mixed
        See :attr:`~cloakify.graph.analysis.classifier_search.ClassifierSearch.mixed`.
    problem
        Why no mask can be chosen by the layer that was found; empty where one can, or none was.
    """

    head: Head | None
    scores: BareScores
    layer: BareScores | None = None
    pooled: bool = False
    mixed: bool = False
    problem: str = ""

    @property
    def are_the_layers(self) -> bool:
        """Whether they are what a layer puts out, and nothing else counts."""
        return self.head is not None and self.layer is None and not self.mixed


def choose_scores(
    graph: gs.Graph,
    answers: list[gs.Tensor],
    head: Head | None,
    constants: Constants,
    *,
    is_named: bool,
) -> ChosenScores:
    """Choose between a head's own scores and those behind it.

    Parameters
    ----------
    answers
        The outputs that are answers.
    head
        As it was found, if it was.
    is_named
        Whether a user named it: then it is taken as it is.

    Raises
    ------
    HeadError
        The answers are made of no scores, or of parts of them.
    """
    if head is None:
        return ChosenScores(None, find_bare_scores(answers, constants))
    if head.op_type == "SVMClassifier":
        own = find_bare_scores(answers, constants)
        head = replace(head, logits=own.tensor.name)
    else:
        own = BareScores(graph.tensors()[head.logits], head.num_classes, "")
    refuse_parts(own.tensor, answers)
    pooled = _stands_at_many(graph, own, answers)
    behind = None
    if pooled or not is_named:
        behind = _behind(graph, head, own, answers, constants, pooled=pooled)
    if behind is None:
        mixed = _goes_into_others(head, own, None)
        return ChosenScores(head, own, pooled=pooled, mixed=mixed)
    problem = _unfit(graph, head, own, behind, constants)
    if problem:
        return ChosenScores(None, behind, own, pooled, problem=problem)
    head = replace(head, logits=behind.tensor.name)
    return ChosenScores(head, behind, own, pooled, _goes_into_others(head, behind, behind))


def _behind(
    graph: gs.Graph,
    head: Head,
    own: BareScores,
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
        is_one = behind.count == own.count and behind.tensor is not own.tensor
        return behind if is_one and not positions_of(graph, behind.tensor, behind.count) else None
    given_out = any(output.name == own.tensor.name for output in graph.outputs)
    if given_out or head.parts or head.scale or head.op_type == "SVMClassifier":
        return None
    if groups_of(graph, own.tensor, own.count) is not None:
        return None
    pair = (own.tensor, own.count, behind.tensor, behind.count)
    return behind if reordered_by(graph, *pair, constants) else None


def _goes_into_others(head: Head, scores: BareScores, behind: BareScores | None) -> bool:
    """Tell whether a classifier in one node only has a part in the scores that count."""
    alone = scores.tensor.name == head.linear
    other = behind is not None or (head.op_type == "SVMClassifier" and not alone)
    return bool(head.votes) or (head.gives_probabilities and other)


def _stands_at_many(graph: gs.Graph, scores: BareScores, answers: list[gs.Tensor]) -> bool:
    """Tell whether a sample has scores at several positions, or of several crops or copies.

    Crops may be folded into the axis of samples, which what follows takes apart again.
    """
    if positions_of(graph, scores.tensor, scores.count):
        return True
    sizes = [tensor.shape[0] for tensor in (scores.tensor, *answers) if tensor.shape]
    if all(isinstance(size, int) for size in sizes) and len({*sizes}) > 1:
        return True
    for node in nodes_behind(scores.tensor):
        shape = node.outputs[0].shape if node.op == "Reshape" else None
        known = [size for size in shape or () if isinstance(size, int)]
        is_stack = shape is not None and len(known) < len(shape) and len(shape) > 2
        if is_stack and scores.count in known and math.prod(known) > scores.count:
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
