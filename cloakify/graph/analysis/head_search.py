"""Find the head: the last linear layer, which turns features into logits.

The search walks back from the graph's outputs through whatever comes after a classifier's logits
(Softmax, reshapes, casts, label look-ups, …) until it meets linear layers; see
:mod:`~cloakify.graph.analysis.linear_layers`. Exactly one must be met, or several that are one map
of the same features (:mod:`~cloakify.graph.analysis.joined_heads`). Others (two classifiers,
auxiliary outputs, layers of other features whose scores are mixed) are refused with the list of
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import HeadError
from cloakify.graph.analysis.grouped_scores import groups_of
from cloakify.graph.analysis.head import WHOLE_CLASSIFIERS, Head
from cloakify.graph.analysis.joined_heads import joined_head
from cloakify.graph.analysis.linear_layers import as_head
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.analysis.task import nodes_behind
from cloakify.graph.model.branches import write_out_branches
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.dataflow import SIZES, leading_to
from cloakify.graph.model.names import called, name_of
from cloakify.graph.model.shapes import import_with_shapes

# Layers with weights that are no mask's place: a search that meets one first has no head.
_OTHER_LAYERS = {"Conv", "ConvTranspose", "Gemm", "LSTM", "GRU", "RNN"}
_LAYERS = _OTHER_LAYERS | {"MatMul"}
_RECURRENT = {"GRU", "LSTM", "RNN"}
# The same as ONNX Runtime fuses them with what follows.
_FUSED = {"FusedConv", "FusedGemm"}
# Layers whose features are no floats, but where the node that quantises them is the head's.
_QUANTISED = {"ConvInteger", "MatMulInteger", "QGemm", "QLinearConv", "QLinearMatMul"}
# Answers that are looked at one by one.
_MOST_TASKS = 8
# What makes of two computed values another that is no score of either (gated units).
_PRODUCTS = {"Einsum", "Gemm", "MatMul", "Mul"}
# What outputs that hold scores are called.
_SCORES = {"logits", "probabilities", "scores"}
# What broadcasts one score against several constants.
_BOUNDS = {"Add", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Sub"}
# What may leave fewer numbers than there are classes, or more.
_PICKS = {
    *("ArrayFeatureExtractor", "Concat", "Gather", "GatherElements", "GatherND", "Slice", "Split"),
    "TopK",
}

_IN_FUNCTION = (
    "the last layer is inside the local function {0!r}, which a mask can't be put into; "
    "write the functions out first (onnx.inliner.inline_local_functions)"
)
_IN_BRANCH = (
    "the last layer is inside {0} {1!r}, whose course the data decide: a mask has no one place in "
    "it; evaluate takes the model, with --attack square where no gradient passes"
)
_ON_INTEGERS = (
    "the last layer, {0} {1!r}, reads or makes quantised numbers alone, and a mask takes floats; "
    "quantise the model in the QDQ format, or leave the layer's input in floats; evaluate and "
    "attack take it as it is"
)


@dataclass(frozen=True)
class HeadSearch:
    """The head that was found, and the linear layers that were not taken, nearest to it first."""

    head: Head
    alternatives: tuple[Head, ...]


def find_head(
    model: ModelProto, wanted: str | None = None, *, any_mixed: bool = False
) -> HeadSearch:
    """Find the head of a classifier.

    Parameters
    ----------
    model
        The model; its weights need not be loaded.
    wanted
        Name of the node to take (or of its output) instead of the one found.
    any_mixed
        Of several layers whose scores the model mixes into one answer take the nearest to the
        outputs: which one matters to a mask, not to an attack or a judgement.

    Raises
    ------
    HeadError
        There is no linear layer, more than one could be the head, or none is called ``wanted``.
    """
    model = write_out_branches(model)
    return find_head_in(import_with_shapes(model), model, wanted, any_mixed=any_mixed)


def find_head_in(
    graph: gs.Graph,
    model: ModelProto,
    wanted: str | None = None,
    *,
    any_mixed: bool = False,
    constants: Constants | None = None,
    answers: list[gs.Tensor] | None = None,
) -> HeadSearch:
    """As :func:`find_head`, in a graph that was imported from the model already.

    What is known of its constants and of its answers need not be looked for again.

    Raises
    ------
    HeadError
        As :func:`find_head`.
    """
    answers = answers_in(graph) if answers is None else answers
    hidden = _functions_with_layers(model)
    constants = constants or Constants(graph)
    paths = ScorePaths(graph, constants)
    readers = _layers_in(graph, constants, paths)
    layers = [head for _, head in readers]
    if not layers:
        if hidden:
            raise HeadError(_IN_FUNCTION.format(min(hidden)[1]))
        for node in graph.nodes:
            if _holds_layer(node):
                raise HeadError(_IN_BRANCH.format(node.op, name_of(node)))
        for node in reversed(graph.nodes):
            if node.op in _QUANTISED:
                raise HeadError(_ON_INTEGERS.format(node.op, name_of(node)))
        raise HeadError(
            "no linear layer with constant weights (Gemm, MatMul or 1×1 Conv) in the graph; "
            "it is no classifier that a mask can harden"
        )
    named = [head for head in layers if wanted in (head.node, head.linear)]
    if named:
        _check_count(graph, answers, named[0])
        return HeadSearch(named[0], tuple(head for head in layers if head is not named[0]))
    met: dict[str, Head] = {}
    try:
        met = _met(graph, answers, layers, hidden, constants)
    except HeadError:
        if wanted is None:
            raise
    reached = [(node, head) for node, head in reversed(readers) if head.linear in met]
    several = None
    if len(met) > 1:
        several = joined_head(graph, answers, reached, readers, constants, paths)
    if wanted is not None and (several is None or wanted not in (several.node, several.linear)):
        listed = ", ".join(repr(head.node) for head in layers[:5])
        raise HeadError(f"no linear layer is called {wanted!r}; the last ones are {listed}")
    taken = several or _only_one(graph, answers, layers, met, any_mixed)
    if wanted is None:
        _check_count(graph, answers, taken)
    # The layers of a joined head are no choice beside it.
    own = {taken.linear} if several is None else {*met}
    return HeadSearch(taken, tuple(head for head in layers if head.linear not in own))


def _layers_in(
    graph: gs.Graph, constants: Constants, paths: ScorePaths
) -> list[tuple[gs.Node, Head]]:
    """List the nodes that read a linear layer's features, from the last in file order on.

    That one is the nearest to the outputs.
    """
    heads = ((node, as_head(node, constants, paths)) for node in reversed(graph.nodes))
    return [(node, head) for node, head in heads if head is not None]


def layers_before(graph: gs.Graph, scores: gs.Tensor) -> list[Head]:
    """Return the linear layers that are met first on the way back from scores.

    None where a layer of another kind comes first, or none at all.
    """
    constants = Constants(graph)
    paths = ScorePaths(graph, constants)
    layers = [head for _, head in _layers_in(graph, constants, paths)]
    try:
        return list(_met(graph, [scores], layers, set(), constants).values())
    except HeadError:
        return []


def answers_in(graph: gs.Graph, unread: list[gs.Tensor] | None = None) -> list[gs.Tensor]:
    """Return the outputs that are answers: features and states may be given out, too.

    They are unread (see :func:`unread_outputs`), and where one of them is called as scores are, the
    others are none. So it is where none is, but the model gives out what it is made of under such a
    name (logits beside hidden states, a label and a confidence).
    """
    answers = unread_outputs(graph) if unread is None else unread
    # What a recurrent layer is given again with the next sample is no answer to this one.
    told = [output for output in answers if not _is_state(output)]
    answers = told or answers
    named = [output for output in answers if output.name.casefold() in _SCORES]
    if not named and len(answers) > 1:
        named = [output for output in graph.outputs if output.name.casefold() in _SCORES]
    # Beside an output of that name others are something else: features, masks, states.
    return named if len(named) == 1 else answers


def _is_state(output: gs.Tensor) -> bool:
    """Tell whether an output is the last state of a recurrent layer."""
    node = output.inputs[0] if output.inputs else None
    return node is not None and node.op in _RECURRENT and output is not node.outputs[0]


def unread_outputs(graph: gs.Graph) -> list[gs.Tensor]:
    """Return the outputs that no other output is computed from."""
    read = {
        tensor.name
        for node in leading_to(graph.nodes, [output.name for output in graph.outputs]).nodes
        for tensor in node.inputs
    }
    return [output for output in graph.outputs if output.name not in read]


def _holds_layer(node: gs.Node) -> bool:
    """Tell whether a layer is in a graph inside a node, at any depth."""
    graphs = [value for value in node.attrs.values() if isinstance(value, gs.Graph)]
    inner = [each for graph in graphs for each in graph.nodes]
    return any(each.op in _LAYERS or _holds_layer(each) for each in inner)


def _functions_with_layers(model: ModelProto) -> set[tuple[str, str]]:
    """Return domain and name of the local functions in which a layer may be, at any depth."""
    holding: set[tuple[str, str]] = set()
    for _ in model.functions:
        for function in model.functions:
            calls = {(node.domain, node.op_type) for node in function.node}
            if calls & holding or _LAYERS & {kind for _, kind in calls}:
                holding.add((function.domain, function.name))
    return holding


def _met(
    graph: gs.Graph,
    answers: list[gs.Tensor],
    layers: list[Head],
    hidden: set[tuple[str, str]],
    constants: Constants,
) -> dict[str, Head]:
    """Return the layers that a walk back from the answers meets, by what they put out.

    No sample goes through what the file fixes, such as embeddings of classes made of their names.

    Raises
    ------
    HeadError
        It meets another kind of layer, or one that is out of reach, or none.
    """
    by_output = {head.linear: head for head in layers}
    met: dict[str, Head] = {}
    seen: set[int] = set()
    branches: list[gs.Node] = []
    waiting = list(answers)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen or tensor in constants:
            continue
        seen.add(id(tensor))
        head = by_output.get(tensor.name)
        if head is not None:
            met[head.linear] = head
            continue
        for node in tensor.inputs:
            if node.op in SIZES:
                continue
            if (node.domain or "", node.op) in hidden:
                raise HeadError(_IN_FUNCTION.format(node.op))
            if _holds_layer(node):
                raise HeadError(_IN_BRANCH.format(node.op, name_of(node)))
            if node.op in _QUANTISED:
                raise HeadError(_ON_INTEGERS.format(node.op, name_of(node)))
            if node.op in _OTHER_LAYERS or (node.op in _FUSED and "activation" in node.attrs):
                raise HeadError(
                    f"the last layer is {node.op} {node.name!r}, which is not linear from features "
                    f"to logits; name the head with --head, candidates are {_listed(layers)}"
                )
            branches += [node] * (node.op in ("If", "Loop", "Scan"))
            waiting.extend(node.inputs)
    if not met and branches:
        raise HeadError(
            f"the output comes out of {branches[0].op} {branches[0].name!r}, whose course the data "
            "decide: a mask has no one place in it; another head may be named with --head"
        )
    if not met:
        raise HeadError("no linear layer leads to an output; it is no classifier")
    return met


def _only_one(
    graph: gs.Graph,
    answers: list[gs.Tensor],
    layers: list[Head],
    met: Mapping[str, Head],
    any_mixed: bool,
) -> Head:
    mixed = len({head.logits for head in met.values()}) == 1
    if len(met) == 1 or (mixed and any_mixed):
        return next(head for head in layers if head.linear in met)
    _refuse_several_tasks(graph, answers, met)
    fitting = [head for head in met.values() if _count_fits(graph, answers, head)]
    if not fitting:
        raise HeadError(
            f"{len(met)} layers make the answer together, {_listed(list(met.values()))}, and none "
            "of them puts out its scores: a mask has no one place; to attack or evaluate takes no "
            "choice"
        )
    could = "could be the head; choose with --head among"
    if len(fitting) < len(met):
        could = "make the answer together; as many scores as it has come from"
    shared = "their scores are mixed into" if mixed else "where all of it makes"
    raise HeadError(
        f"{len(met)} layers {could} {_listed(fitting)}"
        f"{'' if len(fitting) == len(met) else ', which --head chooses'}"
        f"; {shared} one answer, to attack or evaluate takes no choice"
    )


def _refuse_several_tasks(
    graph: gs.Graph, answers: list[gs.Tensor], met: Mapping[str, Head]
) -> None:
    """Raise HeadError where every answer has a layer of its own: there are several tasks."""
    needed = [leading_to(graph.nodes, [answer.name]).values for answer in answers[:_MOST_TASKS]]
    made_by = [frozenset(name for name in met if name in values) for values in needed]
    if len(set(made_by)) > 1 and all(len(each) == 1 for each in made_by):
        names = ", ".join(repr(answer.name) for answer in answers[:_MOST_TASKS])
        raise HeadError(
            f"outputs {names} are made by a layer each, {_listed(list(met.values()))}: several "
            "tasks; choose one with --output-name"
        )


def _count_fits(graph: gs.Graph, answers: list[gs.Tensor], head: Head) -> bool:
    try:
        _check_count(graph, answers, head)
    except HeadError:
        return False
    return True


def _check_count(graph: gs.Graph, answers: list[gs.Tensor], head: Head) -> None:
    """Raise HeadError where the model answers with more or fewer numbers than a head puts out.

    Something stands between them then that makes scores of them: they are none themselves.
    """
    behind = nodes_behind(graph.tensors()[head.logits])
    made = {head.logits, *(tensor.name for node in behind for tensor in node.outputs)}
    if head.num_classes == 1:
        _refuse_bounds(head, behind, made)
    mixed = any(
        node.op in _PRODUCTS and sum(tensor.name in made for tensor in node.inputs) > 1
        for node in behind
    )
    picked = not mixed and any(node.op in _PICKS for node in behind)
    if picked or head.op_type in WHOLE_CLASSIFIERS:
        return
    told = [
        answer.shape[1]
        for answer in answers
        if answer.name in made and answer.shape is not None and len(answer.shape) == 2
    ]
    # One logit may come out as the probabilities of two classes.
    fitting = {1, 2} if head.num_classes == 1 else {head.num_classes}
    if head.num_classes > 1:
        groups = groups_of(graph, graph.tensors()[head.logits], head.num_classes)
        # Scores of which one is chosen in each of several groups come out as so many choices.
        fitting |= set() if groups is None else {groups.count}
    counts = [count for count in told if isinstance(count, int) and count > 1]
    if counts and not fitting & {*counts}:
        raise HeadError(
            f"the model answers with {counts[0]} numbers, but the last layer that is known to be "
            f"linear, {head.node!r}, puts out {head.num_classes}: what makes scores of them is no "
            "layer that a mask is put before"
        )


def _refuse_bounds(head: Head, behind: list[gs.Node], made: Set[str]) -> None:
    """Raise HeadError where one score is made several numbers of by as many constants."""
    for node in behind:
        if node.op not in _BOUNDS or len(node.inputs) != 2:
            continue
        (scores, *_) = sorted(node.inputs, key=lambda tensor: tensor.name not in made)
        before, after = scores.shape, node.outputs[0].shape
        if before and after and before[-1] == 1 and isinstance(after[-1], int) and after[-1] > 1:
            raise HeadError(
                f"{called(node)} holds the one score of {head.node!r} against "
                f"{after[-1]} bounds: an ordinal scale, and no choice between classes that a mask "
                "is put before"
            )


def _listed(heads: list[Head]) -> str:
    return ", ".join(f"{h.node!r} ({h.num_features} → {h.num_classes})" for h in heads[:5])
