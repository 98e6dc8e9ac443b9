"""Which operators between two values have no gradient, and why: asked of the rules themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

import cloakify.graph.gradient.rules  # noqa: F401  (registers the rules)
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Situation, rule_of
from cloakify.graph.model.dataflow import leading_to, reached_from


@dataclass(frozen=True)
class Refusal:
    """A node that gradients can't be written for.

    Attributes
    ----------
    node
        Which.
    reason
        What it does that its operator's rule has no gradient for; empty where there is no rule.
    """

    node: gs.Node
    reason: str = ""

    @property
    def name(self) -> str:
        """The node's name; of one without, its output's."""
        return str(self.node.name or self.node.outputs[0].name)

    def __str__(self) -> str:
        called = f"{self.node.op} ({self.name})"
        return f"{called}: {self.reason}" if self.reason else called


def refusals(
    nodes: Sequence[gs.Node],
    sources: Iterable[str],
    targets: Iterable[str],
    is_fixed: Callable[[Tensor], bool],
    *,
    is_lowered: bool,
    straight_through: bool = False,
) -> list[Refusal]:
    """List the nodes that a gradient of ``targets`` with respect to ``sources`` fails at, in order.

    Nodes that a gradient does not get to, since it ends at another behind them, are none of those.

    Parameters
    ----------
    nodes
        In the order of computation.
    sources, targets
        Names.
    is_fixed, is_lowered
        See :class:`~cloakify.graph.gradient.rule.Situation`.
    straight_through
        Whether gradients pass steps as if those were not there.
    """

    def passes(node: gs.Node) -> bool:
        rule = rule_of(node)
        return rule is None or rule.passes(node, straight_through)

    reached = reached_from(nodes, sources)
    carried = leading_to(reached.nodes, targets, passes=passes)
    at = Situation(
        needs=lambda tensor: tensor.name in reached.values,
        arrives=lambda tensor: tensor.name in carried.values,
        is_fixed=is_fixed,
        is_lowered=is_lowered,
    )
    refused: list[Refusal] = []
    for node in carried.nodes:
        rule = rule_of(node)
        reason = "" if rule is None else rule.supports(node, at)
        if reason is not None:
            refused.append(Refusal(node, reason))
    return refused
