"""Reverse-mode differentiation of a specialised graph.

The classic algorithm (Griewank & Walther, *Evaluating Derivatives*, 2nd ed., section 3.3): walk
the nodes backwards from the tensors whose gradient is given, ask each operator's rule for the
gradients of its inputs, and sum where a tensor is read more than once. Branches that do not lead
from the wanted tensors are never entered, so nothing is spent on the gradient of a weight.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.choices import choice_gradient, find_choices
from cloakify.graph.gradient.rule import Context, rule_of
from cloakify.graph.gradient.secant import secant_gradient
from cloakify.graph.gradient.segments import Segment, find_segments
from cloakify.graph.gradient.total import total
from cloakify.graph.model.dataflow import reached_from
from cloakify.graph.model.shapes import shape_of

# Tensors of a graph, each with the gradient of the objective with respect to it.
Seeds = Sequence[tuple[Tensor, Tensor]]


def differentiate(
    graph: gs.Graph,
    seeds: Seeds,
    wanted: Sequence[Tensor],
    *,
    straight_through: bool = False,
    near: bool = False,
) -> list[Tensor | None]:
    """Append the nodes that compute gradients to ``graph``, in place.

    Parameters
    ----------
    graph
        A specialised graph: static shapes, nodes in topological order. There must be no refusals
        between ``wanted`` and ``seeds``, see :mod:`cloakify.graph.gradient.refusals`.
    seeds
        Where gradients begin.
    wanted
        The tensors to differentiate with respect to.
    straight_through
        See :class:`~cloakify.graph.gradient.rule.Context`.
    near
        See :func:`~cloakify.graph.gradient.secant.secant_gradient`.

    Returns
    -------
    list
        The gradient of each wanted tensor, in order; ``None`` where the objective does not depend
        on it.
    """
    forward = list(graph.nodes)
    active = reached_from(forward, [tensor.name for tensor in wanted]).values
    context = Context(graph, active, straight_through=straight_through)
    hidden = _hidden_steps(graph, active) if straight_through else {}
    chosen = find_choices(graph, active) if straight_through else {}
    pending: dict[int, list[Tensor]] = {}
    for tensor, seed in seeds:
        pending.setdefault(id(tensor), []).append(seed)
    for node in reversed(forward):
        if not any(map(context.needs, node.inputs)):
            continue
        incoming = [_total(context, pending.get(id(tensor))) for tensor in node.outputs]
        if all(gradient is None for gradient in incoming):
            continue
        for tensor, gradient in zip(node.outputs, incoming, strict=True):
            if gradient is not None:
                pending[id(tensor)] = [_shaped(gradient, tensor)]
        segment = hidden.get(node.outputs[0].name)
        if segment is not None:
            assert incoming[0] is not None
            through = secant_gradient(context, segment, incoming[0], near=near)
            pending.setdefault(id(segment.source), []).append(_shaped(through, segment.source))
            continue
        choice = chosen.get(node.outputs[0].name)
        if choice is not None:
            assert incoming[0] is not None
            through = choice_gradient(context, choice, incoming[0])
            pending.setdefault(id(choice.source), []).append(_shaped(through, choice.source))
            continue
        rule = rule_of(node)
        assert rule is not None, node.op
        outgoing = rule.write(context, node, incoming)
        for tensor, gradient in zip(node.inputs, outgoing, strict=False):
            if gradient is not None and context.needs(tensor):
                pending.setdefault(id(tensor), []).append(_shaped(gradient, tensor))
    return [_total(context, pending.get(id(tensor))) for tensor in wanted]


def _hidden_steps(graph: gs.Graph, active: Collection[str]) -> dict[str, Segment]:
    """Return by the name of its end what gradients have to be let through."""
    segments = find_segments(graph, active)
    return {segment.target.name: segment for segment in segments if segment.may_hide}


def _shaped(gradient: Tensor, tensor: Tensor) -> Tensor:
    """Write down the shape of a tensor's gradient, where its rule did not."""
    if isinstance(gradient, gs.Variable) and gradient.shape is None:
        gradient.shape = shape_of(tensor)
    return gradient


def _total(context: Context, gradients: list[Tensor] | None) -> Tensor | None:
    return total(context, gradients) if gradients else None
