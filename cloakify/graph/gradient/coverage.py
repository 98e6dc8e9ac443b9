"""Which operators between input and logits have gradient rules, without building anything."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs
from onnx import ModelProto

import cloakify.graph.gradient.rules  # noqa: F401  (registers the rules)
from cloakify.graph.analysis.inputs import data_inputs
from cloakify.graph.gradient.blocked import blocked_at
from cloakify.graph.gradient.engine import unsupported
from cloakify.graph.gradient.rules.constant import PASSABLE
from cloakify.graph.lowering.data_dependent_shapes import shaped_by_values
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.imported import import_graph


@dataclass(frozen=True)
class Coverage:
    """Gradient coverage of a model.

    Attributes
    ----------
    operators
        How many operators lie between input and logits.
    missing
        Those without a rule, ``OpType (node)``, in graph order, and those whose result has a shape
        that depends on the data's values. Some may still vanish when the shapes of the data are
        known and their arithmetic is folded.
    blocked
        Those at which the gradient ends though the values go on; see
        :mod:`~cloakify.graph.gradient.blocked`.
    passable
        Whether the attack ``apgd-bpda`` lets it pass some of those.
    """

    operators: int
    missing: tuple[str, ...]
    blocked: tuple[str, ...] = ()
    passable: bool = False


def gradient_coverage(model: ModelProto, source: str, logits: str) -> Coverage:
    """Tell which operators between two tensors of ``model`` have no gradient rule."""
    graph = import_graph(model)
    tensors = graph.tensors()
    if source not in tensors or logits not in tensors:
        return Coverage(0, (f"no way from {source!r} to {logits!r}",))
    missing = unsupported(graph, tensors[source], tensors[logits])
    listed = [_named(node) for node in missing]
    data = [value.name for value in data_inputs(model)]
    needed = leading_to(model.graph.node, [logits]).nodes
    listed += [f"{node.op_type} ({node.name})" for node in shaped_by_values(needed, data)]
    ends = blocked_at(graph, tensors[source], tensors[logits])
    return Coverage(
        operators=len(graph.nodes),
        missing=tuple(dict.fromkeys(listed)),
        blocked=tuple(map(_named, ends)),
        passable=any(node.op in PASSABLE for node in ends),
    )


def _named(node: gs.Node) -> str:
    return f"{node.op} ({node.name or node.outputs[0].name})"
