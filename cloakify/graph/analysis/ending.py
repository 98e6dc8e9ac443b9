"""Where a classifier's layers end and its answer begins: at its head, or where there is none.

Gates stand on what leads to the answer, whatever that is made of: soft votes of members that have
features of their own, mixtures of experts and distances have no one head, and layers all the same.

What the last layers put out is scores of the classes, which take no gates, or channels like those
of any other layer: where two of them are multiplied with each other (bilinear forms, the weights of
experts) or summed up (distances), and there are not as many as classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import HeadError
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import layers_before
from cloakify.graph.analysis.task import nodes_behind
from cloakify.graph.model.branches import write_out_branches
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.shapes import import_with_shapes

# What multiplies computed values with each other, or sums them up: other numbers than went in.
_PRODUCTS = {"Einsum", "Gemm", "MatMul", "Mul"}
_SUMS = {"ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"}


class Ending(Protocol):
    """What gates are put in front of, and their effect is looked at behind."""

    @property
    def node(self) -> str:
        """What a hardened file's metadata calls it."""

    @property
    def logits(self) -> str:
        """Name of the class scores."""

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that gated layers lead to."""


@dataclass(frozen=True)
class BareEnding:
    """The ending of a classifier without a head: the scores themselves, by name.

    Attributes
    ----------
    logits
        What holds the scores.
    ends
        What the last layers before them take, or where these have channels like any other, what
        they put out.
    features
        What the last layers take; empty where there are none.
    """

    logits: str
    ends: tuple[str, ...]
    features: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The scores."""
        return self.logits

    @property
    def before_layers(self) -> BareEnding:
        """The same in front of all last layers, as it was once taken."""
        return replace(self, ends=self.features or self.ends)


def ending_at(model: ModelProto, scores: str) -> BareEnding:
    """Return the ending of a model whose answer is made of the scores of that name.

    Raises
    ------
    HeadError
        The model holds no value of that name.
    """
    graph = import_with_shapes(write_out_branches(model))
    made = {tensor.name for node in graph.nodes for tensor in node.outputs}
    if scores not in made:
        raise HeadError(f"the graph computes no {scores!r}")
    tensor, layers = graph.tensors()[scores], layers_before(graph, graph.tensors()[scores])
    if not layers:
        return BareEnding(scores, (scores,))
    constants = Constants(graph)
    ends = {
        layer.linear if _has_channels(graph, layer, tensor, constants) else layer.features
        for layer in layers
    }
    features = {layer.features for layer in layers}
    return BareEnding(scores, tuple(sorted(ends)), tuple(sorted(features)))


def _has_channels(graph: gs.Graph, layer: Head, scores: gs.Tensor, constants: Constants) -> bool:
    """Tell whether what a last layer puts out is no score of a class for sure."""
    count = None if scores.shape is None else scores.shape[-1]
    if not isinstance(count, int) or count == layer.num_classes:
        return False
    leading = {id(node) for node in leading_to(graph.nodes, [scores.name]).nodes}
    return any(
        id(node) in leading and _mixes(node, constants)
        for node in nodes_behind(graph.tensors()[layer.linear])
    )


def _mixes(node: gs.Node, constants: Constants) -> bool:
    computed = [tensor for tensor in node.inputs if tensor not in constants]
    return node.op in _SUMS or (node.op in _PRODUCTS and len(computed) > 1)
