"""Gradients of a working graph, all that is to be done for them: checked, written, made fast."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

import cloakify.graph.gradient.rules  # noqa: F401  (registers the rules)
from cloakify.errors import NoGradientError, UnsupportedOperatorError
from cloakify.graph.gradient.blocks import enter_blocks, keep_blocks
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import differentiate, unsupported


def gradients_of(
    graph: gs.Graph,
    seeds: Sequence[tuple[Tensor, Tensor]],
    wanted: Sequence[Tensor],
    *,
    straight_through: bool = False,
) -> list[Tensor]:
    """Differentiate; name all operators that lack a rule, not only the first.

    Parameters
    ----------
    graph, seeds, wanted, straight_through
        See :func:`~cloakify.graph.gradient.engine.differentiate`.

    Raises
    ------
    UnsupportedOperatorError
        Operators on the way have no gradient rule.
    NoGradientError
        The logits do not depend on the input smoothly.
    """
    missing = [
        node
        for tensor in wanted
        for target, _ in seeds
        for node in unsupported(graph, tensor, target)
    ]
    if missing:
        kinds = {node.op: node.name for node in reversed(missing)}
        listed = ", ".join(f"{op} (node {name!r})" for op, name in sorted(kinds.items()))
        raise UnsupportedOperatorError(
            f"no gradient rule for {listed}; --attack square needs no gradient"
        )
    keep_blocks(graph)
    written = len(graph.nodes)
    found = differentiate(graph, seeds, wanted, straight_through=straight_through)
    enter_blocks(graph, written)
    if any(gradient is None for gradient in found):
        raise NoGradientError(
            "no gradient reaches the input: the logits do not depend on it smoothly; "
            "--attack square needs no gradient"
        )
    for tensor, gradient in zip(wanted, found, strict=True):
        if isinstance(gradient, gs.Variable):
            gradient.shape = tensor.shape
    return [gradient for gradient in found if gradient is not None]
