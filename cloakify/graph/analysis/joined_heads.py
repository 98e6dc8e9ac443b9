"""Several linear layers of the same features whose scores come together are one head.

    Concat(φ W₁ + b₁, …, φ W_K + b_K)       a layer for each class, or for some of them
    Concat(σ(φ w₁ + b₁), …)                 one-vs-rest: each score is bent by itself before
    ½ (φ W₁ + b₁) + ½ (φ W₂ + b₂)           several layers' scores, mixed, also
    ReduceMean(Concat(Unsqueeze(…), …))
    V + A − mean(A)                         one score for all classes, and a layer's own mean
    ½ softmax(φ W₁) + ½ softmax(φ W₂)       a vote: one mask, though no linear map
    φ W + (φ A) B                           a layer that reads another of the features (LoRA)

Together they are one linear map of φ, but for votes, and a mask that all of them read is a mask
before that. What bends scores one by one leaves their order, so the logits of one-vs-rest are the
scores before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.analysis.score_walk import (
    SUMMED,
    axes_of,
    is_last_of,
    only_reader,
    picked_of,
    stacked,
)
from cloakify.graph.analysis.voted_scores import WHOLE as _WHOLE
from cloakify.graph.analysis.voted_scores import votes_of
from cloakify.graph.model.constants import Constants, constant_number
from cloakify.graph.model.dataflow import leading_to, values_made, values_read

# The kinds of layers that are joined; others read their features in forms of their own.
_PLAIN = {"FusedMatMul", "Gemm", "LinearClassifier", "MatMul", "Mul"}
_SIGMOID = "Sigmoid"
# Transformations of a classifier's scores to probabilities that take each score by itself.
_TRANSFORMS = {"NONE": "", "LOGISTIC": _SIGMOID}
_SAME = {"Cast", "Dropout", "Identity"}
_SHAPES = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}
_SUMS = {"Add", "Mean", "Sub", "Sum"}
_SCALES = {"Div", "Mul"}
# Nodes behind the first where all layers meet that are looked at in its place.
_MOST_MEETINGS = 16


@dataclass(frozen=True)
class _Column:
    """One number of each sample on its way from a layer to where all come together.

    Attributes
    ----------
    layer, place
        The layer that alone it comes from, by its scores, and which of these; -1 where it is a
        sum, or was scaled.
    bend
        What the score went through, which leaves the order of scores; empty where nothing.
    turned
        Whether it is one minus that.
    """

    layer: str
    place: int
    bend: str = ""
    turned: bool = False


def joined_head(
    graph: gs.Graph,
    answers: Sequence[gs.Tensor],
    layers: Sequence[tuple[gs.Node, Head]],
    known: Sequence[tuple[gs.Node, Head]],
    constants: Constants,
    paths: ScorePaths,
) -> Head | None:
    """Describe several layers that lead to the answers as one head, if they are one.

    Parameters
    ----------
    answers
        The outputs that are answers.
    layers
        All layers that are met on the way back from them, with their nodes.
    known
        All layers of the graph.
    """
    layers = _from_shared_features(graph, layers, known)
    first = layers[0][1]
    if not all(_is_plain(node, head, first) for node, head in layers):
        return None
    behind = leading_to(graph.nodes, [answer.name for answer in answers]).nodes
    joint = _where_all_passes(behind, answers, [head.linear for _, head in layers])
    if joint is None:
        return None
    tensor = joint.outputs[0]
    walk = _Columns({head.linear: (node, head) for node, head in layers}, constants)
    columns = walk.of(tensor)
    votes = votes_of(tensor, constants) if columns is None else {}
    if columns is None and votes is not None:
        columns = _columns_voted([walk.of_vote(graph.tensors()[name]) for name in votes])
    if columns is None or len(columns) < 1:
        return None
    read_by = tuple(node.outputs[0].name for node, _ in layers)
    head = replace(
        first,
        node=joint.name or tensor.name,
        op_type=joint.op,
        linear=tensor.name,
        logits=tensor.name,
        num_classes=len(columns),
        read_by=read_by,
        product="",
        votes=tuple(votes or ()),
        shares=tuple((votes or {}).values()),
    )
    if votes:
        return head
    if not any(column.bend for column in columns):
        if any(column.turned for column in columns):
            return None
        linear, count = paths.reworked(tensor, 2, 0, len(columns))
        logits = paths.scores_of(linear, 0, is_map=False).name
        return replace(head, linear=linear.name, logits=logits, num_classes=count)
    return _one_vs_rest(head, columns, [node for node, _ in layers])


def _is_plain(node: gs.Node, head: Head, first: Head) -> bool:
    """Tell whether a layer reads the same features, as rows of a matrix."""
    same = (head.features, head.num_features) == (first.features, first.num_features)
    rows = head.features_axis == -1 and (head.features_slot == 0 or node.op == "Mul")
    plain = not (head.cosine or head.scale or head.kernel or head.summed or head.window)
    named = all(output.name for output in node.outputs)
    return same and rows and plain and named and node.op in _PLAIN


def _from_shared_features(
    graph: gs.Graph,
    layers: Sequence[tuple[gs.Node, Head]],
    known: Sequence[tuple[gs.Node, Head]],
) -> Sequence[tuple[gs.Node, Head]]:
    """Return the layers, those that another alone leads to with the features of that.

    The node is the one that reads the features then.
    """
    if len({head.features for _, head in layers}) < 2:
        return layers
    tensors = graph.tensors()
    before = {head.linear: (node, head) for node, head in known}
    shared = []
    for node, head in layers:
        reads, whole = node, head
        while whole.features in before and only_reader(tensors[whole.features]) is reads:
            if not _is_plain(reads, whole, whole):
                break
            reads, inner = before[whole.features]
            whole = replace(inner, linear=head.linear, num_classes=head.num_classes)
        shared.append((reads, whole))
    return shared


def _where_all_passes(
    behind: Sequence[gs.Node], answers: Sequence[gs.Tensor], layers: Sequence[str]
) -> gs.Node | None:
    """Return the first node that all that the layers say goes through on the way to answers."""
    for joint in _where_all_meet(behind, layers):
        reader = only_reader(joint.outputs[0])
        if reader is not None and reader.op in SUMMED and stacked(reader):
            joint = reader
        given = [joint.outputs[0].name]
        others = leading_to(behind, [answer.name for answer in answers], given=given).values
        if not any(name in others for name in layers):
            return joint
    return None


def _where_all_meet(nodes: Sequence[gs.Node], layers: Sequence[str]) -> Iterator[gs.Node]:
    """Yield the first nodes of one output that all of some values lead to."""
    everything = (1 << len(layers)) - 1
    # By value: which of the layers lead to it, a bit for each.
    leading = {name: 1 << place for place, name in enumerate(layers)}
    met = 0
    for node in nodes:
        bits = 0
        for name in values_read(node):
            bits |= leading.get(name, 0)
        if bits == everything:
            met += 1
            if met > _MOST_MEETINGS:
                return
            if len(node.outputs) == 1:
                yield node
        for name in values_made(node):
            leading[name] = leading.get(name, 0) | bits


def _columns_voted(votes: list[list[_Column] | None]) -> list[_Column] | None:
    """Return the columns of a mean of softmaxes, of which each takes scores of all classes."""
    known = [columns for columns in votes if columns is not None]
    if len(known) < len(votes) or any(map(_is_changed, known)):
        return None
    counts = {len(columns) for columns in known}
    return known[0] if len(counts) == 1 and min(counts) > 1 else None


def _one_vs_rest(head: Head, columns: list[_Column], nodes: list[gs.Node]) -> Head | None:
    """Describe layers whose scores are all bent alike before they stand side by side."""
    kinds = {(column.bend, column.turned) for column in columns}
    if kinds != {(_SIGMOID, False)} or any(column.place < 0 for column in columns):
        return None
    places = tuple(column.place for column in columns)
    parts = tuple(column.layer for column in columns)
    whole = [node.op == _WHOLE for node in nodes]
    if all(whole):
        # Working copies have the scores themselves in the place of their probabilities.
        return replace(head, op_type=_WHOLE, parts=parts, places=places)
    # What is put side by side in their place are whole tensors.
    if any(whole) or any(places) or len(set(parts)) < len(parts):
        return None
    return replace(head, parts=parts)


class _Columns:
    """Walks back from where scores come together to the layers that they come from."""

    def __init__(self, layers: dict[str, tuple[gs.Node, Head]], constants: Constants) -> None:
        self._layers = layers
        self._constants = constants
        self._known: dict[str, list[_Column] | None] = {}

    def of(self, tensor: gs.Tensor) -> list[_Column] | None:
        """Return the columns that a tensor [N, C] or [N] holds; ``None`` where they are no scores.

        However they are nested, each tensor is looked at once.
        """
        waiting = [tensor]
        while waiting:
            last = waiting[-1]
            if last.name in self._known:
                waiting.pop()
                continue
            needed = [] if last.name in self._layers else self._scores_read(last)
            missing = [each for each in needed or [] if each.name not in self._known]
            if missing and needed is not None:
                waiting += missing
                continue
            self._known[last.name] = self._found(last, needed)
        return self._known[tensor.name]

    def of_vote(self, tensor: gs.Tensor) -> list[_Column] | None:
        """Return the columns of what is voted on; of a whole classifier its scores'."""
        node, head = self._layers.get(tensor.name, (None, None))
        if node is None or head is None or node.op != _WHOLE:
            return self.of(tensor)
        return [_Column(head.linear, place) for place in range(head.num_classes)]

    def _scores_read(self, tensor: gs.Tensor) -> list[gs.Tensor] | None:
        """Return what a tensor's node reads but constants; ``None`` where it can't be scores."""
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None or not node.inputs or len(node.outputs) != 1:
            return None
        return stacked(node) or [each for each in node.inputs if each not in self._constants]

    def _found(self, tensor: gs.Tensor, needed: list[gs.Tensor] | None) -> list[_Column] | None:
        if tensor.name in self._layers:
            return _of_layer(*self._layers[tensor.name])
        if not needed:
            return None
        read = [self._known[each.name] for each in needed]
        node = tensor.inputs[0]
        known = [columns for columns in read if columns is not None]
        if len(known) < len(read):
            return None
        if node.op in SUMMED:
            return _summed(known) if stacked(node) else _reduced(node, known[0])
        if node.op == "Concat":
            whole = len(read) == len(node.inputs) and is_last_of(node, node.attrs.get("axis"))
            return [column for columns in known for column in columns] if whole else None
        if len(known) > 1:
            whole = node.op in _SUMS and len(known) == len(node.inputs)
            return _summed(known, node.inputs) if whole else None
        return self._changed(node, known[0], tensor)

    def _changed(
        self, node: gs.Node, columns: list[_Column], tensor: gs.Tensor
    ) -> list[_Column] | None:
        """Return what columns become by a node that reads nothing else but constants."""
        if node.op in _SAME:
            return columns
        if node.op in _SHAPES:
            return columns if len(columns) == 1 and _holds_one(tensor) else None
        if node.op == _SIGMOID:
            bent = [replace(column, bend=_SIGMOID) for column in columns]
            return None if any(column.bend or column.turned for column in columns) else bent
        if node.op in ("ArrayFeatureExtractor", "Gather", "Slice"):
            places = picked_of(node, len(columns))
            return None if places is None else [columns[place] for place in places]
        if node.op == "Sub" and node.inputs[1] not in self._constants and _bent(columns):
            one = constant_number(node.inputs[0]) == 1
            return [replace(each, turned=not each.turned) for each in columns] if one else None
        by_constants = node.op in _SUMS - {"Mean"} or (
            node.op in _SCALES and (node.op == "Mul" or node.inputs[1] in self._constants)
        )
        if not (by_constants or node.op == "Neg") or _bent(columns):
            return None
        shapes = [self._constants.shape(each) for each in node.inputs if each in self._constants]
        if any(shape is None or not _fits(shape, len(columns)) for shape in shapes):
            return None
        return [replace(column, place=-1) for column in columns]


def _of_layer(node: gs.Node, head: Head) -> list[_Column] | None:
    transform = _TRANSFORMS.get(str(node.attrs.get("post_transform", "NONE")))
    if node.op != _WHOLE:
        transform = ""
    if transform is None:
        return None
    return [_Column(head.linear, place, transform) for place in range(head.num_classes)]


def _summed(terms: list[list[_Column]], tensors: Sequence[gs.Tensor] = ()) -> list[_Column] | None:
    """Return the columns of a sum of several layers' scores, or of a mean of them.

    A column of its own may be added to each, as far as it is known to be one.
    """
    count = max(len(columns) for columns in terms)
    if any(map(_bent, terms)):
        return None
    for place, columns in enumerate(terms):
        if len(columns) == count:
            continue
        shape = tensors[place].shape if tensors else None
        if len(columns) > 1 or shape is None or len(shape) != 2 or shape[1] != 1:
            return None
    fullest = next(columns for columns in terms if len(columns) == count)
    return [replace(column, place=-1) for column in fullest]


def _reduced(node: gs.Node, columns: list[_Column]) -> list[_Column] | None:
    """Return the one column of the sum or mean of all, which stays an axis of its own."""
    axes = axes_of(node)
    along = axes is not None and len(axes) == 1 and is_last_of(node, axes[0])
    if not along or _bent(columns) or not node.attrs.get("keepdims", 1):
        return None
    return [replace(columns[0], place=-1)]


def _is_changed(columns: list[_Column]) -> bool:
    return any(column.bend or column.turned for column in columns)


def _bent(columns: list[_Column]) -> bool:
    return any(column.bend for column in columns)


def _holds_one(tensor: gs.Tensor) -> bool:
    """Tell whether a tensor has the shape [N, 1] or [N], as far as it is known."""
    shape = tensor.shape
    return shape is None or len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _fits(shape: tuple[int, ...], count: int) -> bool:
    """Tell whether a constant is one number for each class, or one for all."""
    sizes = list(shape)
    own = sizes.pop() if sizes else 1
    return own in (1, count) and len(shape) < 3 and all(size == 1 for size in sizes)
