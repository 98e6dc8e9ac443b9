"""Follow a linear layer's output to the class scores that a model answers with.

Between the two may stand whatever only moves, pools or picks scores, and, where a model has several
such layers, what mixes theirs into one answer: DeiT's distilled models halve the sum of two,
CrossViT stacks and averages them, EfficientViM weights four, Volo adds half of the highest that a
second layer finds at any position. A layer's scores may also be turned around (distances into
scores), shifted by class (a prior), or put into another order; that belongs to the layer.
"""

from __future__ import annotations

from collections.abc import Set

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.score_walk import (
    MOVES,
    SAME,
    axes_of,
    follow,
    only_reader,
    setting,
)
from cloakify.graph.analysis.task import begins_sigmoid
from cloakify.graph.model.constants import Constants, constant_number

# What mixes scores with others, or with constants.
_SUMS = {"Add", "Sub", "Sum", "Mean"}
_SCALES = {"Mul", "Div"}
_REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceMax"}


class ScorePaths:
    """Where the outputs of a graph's linear layers lead to.

    However many layers there are, each tensor is looked at once.
    """

    def __init__(self, graph: gs.Graph, constants: Constants) -> None:
        self._graph = graph
        self._constants = constants
        self._outputs = {tensor.name for tensor in graph.outputs}
        self._layers: dict[str, frozenset[str]] | None = None
        # By tensor and kind of layer: what the last mixture behind it becomes.
        self._mixtures: dict[tuple[str, int, bool], gs.Tensor | None] = {}

    def reworked(
        self, linear: gs.Tensor, rank: int | None, behind: int, classes: int
    ) -> tuple[gs.Tensor, int]:
        """Follow what changes a layer's scores class by class, as far as it can change the answer.

        Neg, sums and products with a constant for each class (a normalisation's, too), classes
        picked or put in order: together with the layer they are one linear map, also behind what
        makes [N, C] of the scores of one position. A positive factor or a number added to all of
        them leaves the answer as it is, and alone is not followed. What is an output of the graph
        is an answer, and is not followed either.

        Parameters
        ----------
        linear
            What the layer puts out, bias included.
        rank, behind, classes
            How many axes it has, how many of them behind its class axis, and how many classes.

        Returns
        -------
        The reworked scores and how many classes there are then.
        """
        if rank is None and linear.shape is not None:
            rank = len(linear.shape)
        tensor = last = linear
        count = classes
        while tensor.name not in self._outputs:
            node = only_reader(tensor)
            part = _only_part(tensor, self._outputs)
            if part is not None and part[1] > 1:
                tensor, count = part
                last, classes = tensor, count
                continue
            if node is None or begins_sigmoid(node, self._constants):
                break
            if _is_of_one_position(node, tensor, behind, count):
                tensor, rank, behind = node.outputs[0], 2, 0
                continue
            picked = self._picked_classes(node, tensor, rank, behind, count)
            if picked is not None:
                count = picked
            elif node.op not in ("Neg", *SAME) and not self._is_by_class(
                node, tensor, rank, behind, count
            ):
                break
            neutral = picked is None and node.op != "Neg" and _is_neutral(node, tensor)
            tensor = node.outputs[0]
            if not neutral:
                last, classes = tensor, count
        return last, classes

    def scores_of(self, linear: gs.Tensor, behind: int, *, is_map: bool) -> gs.Tensor:
        """Return the class scores that a linear layer's output becomes.

        The model answers with the mixture, not with what one of its layers says: where several
        layers' scores are mixed, all of them are led to the same tensor.

        Parameters
        ----------
        linear
            What the layer puts out, bias included.
        behind, is_map
            As for :func:`~cloakify.graph.analysis.score_walk.follow`.
        """
        own = follow(linear, behind, is_map=is_map)
        return self._mixture_behind(own, behind, is_map) or own

    def mixes(self, tensor: gs.Tensor) -> bool:
        """Tell whether a tensor is scores of layers, side by side or mixed."""
        return bool(self._layers_behind(tensor))

    def _mixture_behind(self, tensor: gs.Tensor, behind: int, is_map: bool) -> gs.Tensor | None:
        """Return the scores that the last mixture of several layers behind a tensor becomes."""
        passed = []
        last = None
        while (tensor.name, behind, is_map) not in self._mixtures:
            passed.append((tensor.name, behind, is_map))
            mixed = _mixed(tensor)
            layers = frozenset[str]() if mixed is None else self._layers_behind(mixed)
            if mixed is None or not layers:
                break
            tensor = mixed
            # Scores of one layer that are only scaled stay what they were.
            if len(layers) > 1:
                tensor = last = follow(mixed, behind, is_map=is_map)
        last = self._mixtures.get((tensor.name, behind, is_map)) or last
        self._mixtures.update(dict.fromkeys(passed, last))
        return last

    def _layers_behind(self, tensor: gs.Tensor) -> frozenset[str]:
        """Return the linear layers that a tensor is mixed of, by their outputs: two at most.

        Empty where anything but scores and constants goes into it.
        """
        if self._layers is None:
            self._layers = {}
            for node in self._graph.nodes:
                layers = self._mixed_layers(node, self._layers)
                if layers is not None:
                    self._layers[node.outputs[0].name] = frozenset(sorted(layers)[:2])
        return self._layers.get(tensor.name, frozenset())

    def _mixed_layers(self, node: gs.Node, before: dict[str, frozenset[str]]) -> set[str] | None:
        """Return the layers whose scores a node mixes; ``None`` where it does something else."""
        if len(node.outputs) != 1:
            return None
        if self._is_layer(node):
            return {node.outputs[0].name}
        if node.op in _SUMS | {"Concat"} or (node.op in _SCALES and self._is_scaled(node)):
            mixed = list(node.inputs)
        elif node.op in MOVES | _REDUCTIONS | {"Unsqueeze"}:
            mixed = node.inputs[:1]
        else:
            return None
        layers: set[str] = set()
        for tensor in mixed:
            if tensor.name in before:
                layers |= before[tensor.name]
            elif tensor not in self._constants:
                return None
        return layers

    def _is_scaled(self, node: gs.Node) -> bool:
        """Tell whether a product or quotient only scales one of its inputs."""
        first, second = (tensor in self._constants for tensor in node.inputs)
        return second or (first and node.op == "Mul")

    def _is_layer(self, node: gs.Node) -> bool:
        """Tell whether a node is a linear layer; its bias may be added behind."""
        return node.op in ("Gemm", "MatMul") and any(
            tensor in self._constants for tensor in node.inputs[:2]
        )

    def _is_by_class(
        self, node: gs.Node, tensor: gs.Tensor, rank: int | None, behind: int, classes: int
    ) -> bool:
        """Tell whether a node adds one constant for each class to scores, or scales by it."""
        if node.op == "BatchNormalization":
            # Of its own statistics, which it was exported with: along the second axis.
            fixed = all(each in self._constants for each in node.inputs[1:])
            return fixed and not node.attrs.get("training_mode", 0) and rank == behind + 2
        if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
            return False
        if node.op == "Div" and node.inputs[0] is not tensor:
            return False
        other = node.inputs[1] if node.inputs[0] is tensor else node.inputs[0]
        shape = None if other is tensor else self._constants.shape(other)
        if shape is None or len(shape) > 2 + behind:
            return False
        # Sizes but that of the class axis, counted from the last axis.
        sizes = list(reversed(shape))
        own = sizes.pop(behind) if len(sizes) > behind else 1
        return own in (1, classes) and all(size == 1 for size in sizes)

    def _picked_classes(
        self, node: gs.Node, tensor: gs.Tensor, rank: int | None, behind: int, classes: int
    ) -> int | None:
        """Return how many classes a node picks along their axis; ``None`` where it does not.

        One class alone is no choice between classes any more.
        """
        if node.op not in ("Gather", "Slice") or node.inputs[0] is not tensor:
            return None
        axes = [node.attrs.get("axis", 0)] if node.op == "Gather" else axes_of(node)
        if axes is None or len(axes) != 1 or (axes[0] >= 0 and rank is None):
            return None
        if axes[0] - (rank or 0) * (axes[0] >= 0) != -1 - behind:
            return None
        if node.op == "Gather":
            shape = self._constants.shape(node.inputs[1])
            return shape[0] if shape is not None and len(shape) == 1 and shape[0] > 1 else None
        bounds = [setting(node, name, slot) for slot, name in ((1, "starts"), (2, "ends"))]
        bounds.append(setting(node, "steps", 4) if len(node.inputs) > 4 else [1])
        if any(bound is None or len(bound) != 1 for bound in bounds):
            return None
        count = len(range(*slice(*(bound[0] for bound in bounds if bound)).indices(classes)))
        return count if count > 1 else None


def _only_part(tensor: gs.Tensor, outputs: Set[str]) -> tuple[gs.Tensor, int] | None:
    """Return the part of a `Split` that alone is used, and how many classes it has."""
    if len(tensor.outputs) != 1 or tensor.outputs[0].op != "Split":
        return None
    used = [part for part in tensor.outputs[0].outputs if part.outputs or part.name in outputs]
    whole = tensor.shape
    if len(used) != 1 or whole is None or used[0].shape is None:
        return None
    pairs = zip(whole, used[0].shape, strict=True)
    (size,) = {own for other, own in pairs if other != own} or {None}
    return (used[0], size) if isinstance(size, int) else None


def _is_of_one_position(node: gs.Node, tensor: gs.Tensor, behind: int, classes: int) -> bool:
    """Tell whether a node makes [N, C] of scores that are those of one position."""
    before, after = tensor.shape, node.outputs[0].shape
    if node.op not in MOVES or node.op in SAME or node.inputs[0] is not tensor:
        return False
    if before is None or after is None or len(before) < 3 or len(after) != 2:
        return False
    sizes = list(before[1:])
    return after[1] == classes == sizes.pop(-1 - behind) and all(size == 1 for size in sizes)


def _is_neutral(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Tell whether a sum or product with constants leaves the largest score the largest."""
    if node.op in SAME:
        return True
    if node.op == "BatchNormalization":
        return False
    first = node.inputs[0] is tensor
    number = constant_number(node.inputs[1 if first else 0])
    if number is None:
        return False
    return first or node.op == "Add" if node.op in ("Add", "Sub") else number > 0


def _mixed(tensor: gs.Tensor) -> gs.Tensor | None:
    """Return what scores become with others or with constants, or ``None`` where they do not."""
    node = only_reader(tensor)
    if node is None:
        return None
    if node.op in _SUMS or (node.op in _SCALES and (node.op == "Mul" or node.inputs[0] is tensor)):
        return node.outputs[0]
    if node.op != "Unsqueeze" or node.inputs[0] is not tensor:
        return None
    # One layer's scores beside another's along a new axis, which is reduced at once.
    stack = only_reader(node.outputs[0])
    reduction = None if stack is None else only_reader(stack.outputs[0])
    if stack is None or reduction is None or stack.op != "Concat":
        return None
    axes = [stack.attrs.get("axis")]
    reduced = reduction.op in _REDUCTIONS and not reduction.attrs.get("keepdims", 1)
    return reduction.outputs[0] if reduced and axes_of(node) == axes_of(reduction) == axes else None
