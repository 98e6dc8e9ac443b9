"""Where a classifier's layers end and its answer begins: at its head, or where there is none.

Gates stand on what leads to the answer, whatever that is made of: soft votes of members that have
features of their own, mixtures of experts and distances have no one head, and layers all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from onnx import ModelProto

from cloakify.errors import HeadError
from cloakify.graph.analysis.head_search import features_before
from cloakify.graph.model.branches import write_out_branches
from cloakify.graph.model.shapes import import_with_shapes


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
        What the last layers before them take.
    """

    logits: str
    ends: tuple[str, ...]

    @property
    def node(self) -> str:
        """The scores."""
        return self.logits


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
    return BareEnding(scores, features_before(graph, graph.tensors()[scores]))
