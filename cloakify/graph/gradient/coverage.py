"""Which operators between input and logits have gradient rules, without building anything."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs
from onnx import ModelProto

import cloakify.graph.gradient.rules  # noqa: F401  (registers the rules)
from cloakify.graph.gradient.engine import unsupported


@dataclass(frozen=True)
class Coverage:
    """Gradient coverage of a model.

    Attributes
    ----------
    operators
        How many operators lie between input and logits.
    missing
        Those without a rule, ``OpType (node)``, in graph order. Some may still vanish when the
        shapes of the data are known and their arithmetic is folded, or be rewritten before.
    """

    operators: int
    missing: tuple[str, ...]


def gradient_coverage(model: ModelProto, source: str, logits: str) -> Coverage:
    """Tell which operators between two tensors of ``model`` have no gradient rule."""
    graph = gs.import_onnx(model)
    tensors = graph.tensors()
    if source not in tensors or logits not in tensors:
        return Coverage(0, (f"no way from {source!r} to {logits!r}",))
    missing = unsupported(graph, tensors[source], tensors[logits])
    listed = tuple(f"{node.op} ({node.name})" for node in missing)
    return Coverage(len(graph.nodes), listed)
