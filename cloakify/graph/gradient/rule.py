"""Gradient rules: how the gradients of an operator's inputs follow from those of its outputs.

Each is registered together with what it supports. Whoever wants to know whether a model can be
differentiated (an inspection, an attack before it begins, lowering before it writes an operator
out) asks that, and no rule refuses anything once it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.onnxfile.domains import domain_of

# The gradients of a node's inputs or outputs, in order; None where there is none.
Gradients: TypeAlias = list[Tensor | None]

# A rule gets the context, the node, and the gradient of each output (None where none flows back);
# it returns the gradient of each input (None for those that need none or have none). A returned
# gradient has exactly the shape and dtype of its input.
Write: TypeAlias = Callable[["Context", gs.Node, Gradients], Sequence[Tensor | None]]

# The rule of an operator with one differentiable input, the first, and one output: it takes the
# gradient of the output and returns that of the input.
WriteUnary: TypeAlias = Callable[["Context", gs.Node, Tensor], Tensor]


@dataclass(frozen=True)
class Situation:
    """Where a node stands, as far as it matters to what a rule supports.

    Attributes
    ----------
    needs
        Tells of a tensor whether it depends on what is differentiated with respect to.
    arrives
        Tells of an output of the node whether a gradient flows back to it.
    is_fixed
        Tells of a tensor whether its value is known, or will be as soon as shapes are.
    is_lowered
        Whether the graph is lowered: shapes and types are known, and what could be written out as
        other operators is.
    """

    needs: Callable[[Tensor], bool]
    arrives: Callable[[Tensor], bool]
    is_fixed: Callable[[Tensor], bool]
    is_lowered: bool


# Tells why a rule can't be written for a node, as what the node does ("computes its weights from
# data"), or None where it can.
Supports: TypeAlias = Callable[[gs.Node, Situation], str | None]

# Tells whether any gradient passes a node, given whether steps are to be passed straight through.
Passes: TypeAlias = Callable[[gs.Node, bool], bool]


@dataclass(frozen=True)
class Rule:
    """What there is to an operator's gradient.

    Attributes
    ----------
    write
        Appends it to the graph.
    supports
        Tells of which nodes it can.
    passes
        Tells through which nodes there is any.
    """

    write: Write
    supports: Supports
    passes: Passes


_RULES: dict[tuple[str, str], Rule] = {}


def rule(
    *op_types: str,
    domain: str = "",
    supports: Supports | None = None,
    passes: Passes | None = None,
) -> Callable[[Write], Write]:
    """Register a function as the gradient rule of some operators.

    Parameters
    ----------
    supports, passes
        See :class:`Rule`; by default every node is supported, and passed.
    """

    def register(function: Write) -> Write:
        for op_type in op_types:
            assert (domain, op_type) not in _RULES, op_type
            _RULES[domain, op_type] = Rule(function, supports or _always, passes or _everywhere)
        return function

    return register


def unary(
    *op_types: str, domain: str = "", supports: Supports | None = None
) -> Callable[[WriteUnary], WriteUnary]:
    """Register a function of one gradient as the rule of some operators."""

    def register(function: WriteUnary) -> WriteUnary:
        @rule(*op_types, domain=domain, supports=supports)
        def whole(context: Context, node: gs.Node, grads: Gradients) -> Sequence[Tensor | None]:
            g = grads[0]
            return [None if g is None else function(context, node, g)]

        return function

    return register


def has_rule(domain: str, op_type: str) -> bool:
    """Tell whether an operator has a gradient rule; the standard's own domain is empty."""
    return (domain, op_type) in _RULES


def rule_of(node: gs.Node) -> Rule | None:
    """Return the rule of a node's operator, if it has one."""
    return _RULES.get((domain_of(node), node.op))


def _always(node: gs.Node, at: Situation) -> str | None:
    return None


def _everywhere(node: gs.Node, straight_through: bool) -> bool:
    return True


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
