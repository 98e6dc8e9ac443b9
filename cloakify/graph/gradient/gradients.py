"""Gradients of a working graph, all that is to be done for them: asked for, written, made fast."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from cloakify.errors import NoGradientError, UnsupportedOperatorError
from cloakify.graph.gradient.blocks import enter_blocks, keep_blocks
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Seeds, differentiate
from cloakify.graph.gradient.refusals import Refusal, refusals
from cloakify.graph.model.shapes import shape_of

# Reasons that an error names, besides all operators without a rule.
_NAMED = 3


def gradients_of(
    graph: gs.Graph,
    seeds: Seeds,
    wanted: Sequence[Tensor],
    *,
    straight_through: bool = False,
    near: bool = False,
) -> list[Tensor]:
    """Append the gradients of the wanted tensors to a graph, in place.

    Parameters
    ----------
    graph, seeds, wanted, straight_through, near
        See :func:`~cloakify.graph.gradient.engine.differentiate`.

    Raises
    ------
    UnsupportedOperatorError
        Operators on the way have no gradient rule, or none for what they do; all are named.
    NoGradientError
        The logits do not depend on the input smoothly.
    """
    refused = refusals(
        graph.nodes,
        [tensor.name for tensor in wanted],
        [tensor.name for tensor, _ in seeds],
        lambda tensor: isinstance(tensor, gs.Constant),
        is_lowered=True,
        straight_through=straight_through,
    )
    if refused:
        raise UnsupportedOperatorError(f"{_told(refused)}; --attack square needs no gradient")
    keep_blocks(graph)
    written = len(graph.nodes)
    gradients = differentiate(graph, seeds, wanted, straight_through=straight_through, near=near)
    enter_blocks(graph, written)
    reaching = [gradient for gradient in gradients if gradient is not None]
    if len(reaching) < len(wanted):
        raise NoGradientError(
            "no gradient reaches the input: the logits do not depend on it smoothly; "
            "--attack square needs no gradient"
        )
    for tensor, gradient in zip(wanted, reaching, strict=True):
        if isinstance(gradient, gs.Variable):
            gradient.shape = shape_of(tensor)
    return reaching


def _told(refused: Sequence[Refusal]) -> str:
    """Return one line for all operators without a rule, and the first of the other reasons."""
    parts: list[str] = []
    without = {each.node.op: each.name for each in reversed(refused) if not each.reason}
    if without:
        listed = ", ".join(f"{op} (node {name!r})" for op, name in sorted(without.items()))
        parts.append(f"no gradient rule for {listed}")
    reasons = [f"{each.node.op} {each.name!r} {each.reason}" for each in refused if each.reason]
    parts += reasons[:_NAMED]
    if len(reasons) > _NAMED:
        parts.append(f"{len(reasons) - _NAMED} more have none")
    return ", and ".join(parts)
