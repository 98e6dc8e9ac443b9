"""Reverse-mode differentiation of a specialised graph.

The classic algorithm (Griewank & Walther, *Evaluating Derivatives*, 2nd ed., section 3.3): walk
the nodes backwards from the tensors whose gradient is given, ask each operator's rule for the
gradients of its inputs, and sum where a tensor is read more than once. Branches that do not lead
from the wanted tensors are never entered, so nothing is spent on the gradient of a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import onnx_graphsurgeon as gs

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.gradient.total import total
from cloakify.graph.model.dataflow import between, reached_from

# A rule gets the context, the node, and the gradient of each output (None where none flows back);
# it returns the gradient of each input (None for those that need none or have none). A returned
# gradient has exactly the shape and dtype of its input.
Rule = Callable[["Context", gs.Node, list[Tensor | None]], Sequence[Tensor | None]]

_RULES: dict[tuple[str, str], Rule] = {}


def rule(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register a function as the gradient rule of some operators."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            assert (domain, op_type) not in _RULES, op_type
            _RULES[domain, op_type] = function
        return function

    return register


# The rule of an operator with one differentiable input, the first, and one output: it takes the
# gradient of the output and returns that of the input.
Unary = Callable[["Context", gs.Node, Tensor], Tensor]


def unary(*op_types: str, domain: str = "") -> Callable[[Unary], Unary]:
    """Register a function of one gradient as the rule of some operators."""

    def register(function: Unary) -> Unary:
        @rule(*op_types, domain=domain)
        def whole(
            context: Context, node: gs.Node, grads: list[Tensor | None]
        ) -> Sequence[Tensor | None]:
            g = grads[0]
            return [None if g is None else function(context, node, g)]

        return function

    return register


def has_rule(domain: str, op_type: str) -> bool:
    """Tell whether an operator has a gradient rule; the standard's own domain is empty."""
    return (domain, op_type) in _RULES


class Context(Builder):
    """What a rule sees: the builder, and which tensors need a gradient.

    ``straight_through`` says whether gradients pass steps as if those were not there.
    """

    def __init__(
        self, graph: gs.Graph, active: Collection[str] = (), *, straight_through: bool = False
    ) -> None:
        super().__init__(graph)
        self._active = active
        self.straight_through = straight_through

    def needs(self, tensor: Tensor) -> bool:
        """Tell whether the tensor depends on what is differentiated with respect to."""
        return tensor.name in self._active


def differentiate(
    graph: gs.Graph,
    seeds: Sequence[tuple[Tensor, Tensor]],
    wanted: Sequence[Tensor],
    *,
    straight_through: bool = False,
) -> list[Tensor | None]:
    """Append the nodes that compute gradients to ``graph``, in place.

    Parameters
    ----------
    graph
        A specialised graph: static shapes, nodes in topological order.
    seeds
        Tensors of the graph, each with the gradient of the objective with respect to it.
    wanted
        The tensors to differentiate with respect to.
    straight_through
        See :class:`Context`.

    Returns
    -------
    list
        The gradient of each wanted tensor, in order; ``None`` where the objective does not depend
        on it.

    Raises
    ------
    UnsupportedOperatorError
        An operator on the way has no gradient rule.
    """
    forward = list(graph.nodes)
    active = reached_from(forward, [tensor.name for tensor in wanted]).values
    context = Context(graph, active, straight_through=straight_through)
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
        outgoing = _rule_for(node)(context, node, incoming)
        for tensor, gradient in zip(node.inputs, outgoing, strict=False):
            if gradient is not None and context.needs(tensor):
                pending.setdefault(id(tensor), []).append(_shaped(gradient, tensor))
    return [_total(context, pending.get(id(tensor))) for tensor in wanted]


def unsupported(graph: gs.Graph, source: Tensor, target: Tensor) -> list[gs.Node]:
    """List the nodes between two tensors whose operator has no gradient rule."""
    on_the_way = between(graph.nodes, source.name, target.name)
    return [node for node in on_the_way if not has_rule(*_key(node))]


def _shaped(gradient: Tensor, tensor: Tensor) -> Tensor:
    """Write down the shape of a tensor's gradient, where its rule did not."""
    if isinstance(gradient, gs.Variable) and gradient.shape is None:
        gradient.shape = tensor.shape
    return gradient


def _total(context: Context, gradients: list[Tensor] | None) -> Tensor | None:
    return total(context, gradients) if gradients else None


def _key(node: gs.Node) -> tuple[str, str]:
    domain = node.domain or ""
    return ("" if domain == "ai.onnx" else domain, node.op)


def _rule_for(node: gs.Node) -> Rule:
    found = _RULES.get(_key(node))
    if found is None:
        domain, op_type = _key(node)
        raise UnsupportedOperatorError(
            f"operator {domain + '.' if domain else ''}{op_type} (node {node.name!r}) has no "
            "gradient rule; --attack square needs no gradient"
        )
    return found
