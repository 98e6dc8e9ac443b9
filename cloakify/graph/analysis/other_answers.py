"""Outputs that could be meant for the answer as well as the one that is taken.

Coarse classes made of fine ones, the answer of an earlier layer that a later one reads: a graph
says which of them is made last, and not which one the labels are of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from cloakify.errors import HeadError
from cloakify.graph.analysis.bare_scores import find_bare_scores
from cloakify.graph.analysis.head import Head
from cloakify.graph.model.constants import Constants

# What is part of the names of outputs that hold scores, and of those that hold none.
_SCORES = frozenset({"logit", "logits", "prob", "probabilities", "probs", "score", "scores"})
_FEATURES = frozenset(
    {"embedding", "embeddings", "emb", "feature", "features", "feat", "feats", "hidden", "latent"}
)


@dataclass(frozen=True)
class OutputChoice:
    """The output that is taken for the answer, and others with scores of their own.

    Attributes
    ----------
    taken
        Name of the output; empty where there is no other.
    others
        Each one's name, with how many scores it holds for a sample.
    """

    taken: str = ""
    others: tuple[tuple[str, int], ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it: nothing where there is no other."""
        if not self.others:
            return ()
        listed = ", ".join(f"{name!r} ({count} scores)" for name, count in self.others)
        return (f"the answer is output {self.taken!r}; --output-name takes another: {listed}",)


ONE_OUTPUT = OutputChoice()
"""No other output could be meant."""


def output_choice(
    graph: gs.Graph, scores: gs.Tensor, layers: Iterable[Head], constants: Constants
) -> OutputChoice:
    """Find the outputs that hold what another linear layer puts out, or probabilities of it.

    Features that are given out beside an answer are no scores. Where nothing bends them, a graph
    does not tell them from those, and names do.

    Parameters
    ----------
    scores
        Those that are taken.
    layers
        The linear layers that were not taken.
    """
    own = {name for layer in layers for name in (layer.linear, layer.logits)} - {scores.name}
    taken, others = "", []
    for output in graph.outputs:
        try:
            behind = find_bare_scores([output], constants)
        except HeadError:
            continue
        if behind.tensor is scores:
            taken = taken or output.name
        elif behind.tensor.name in own and behind.count > 1:
            others.append((output.name, behind.count))
    said = bool(_words(taken) & _SCORES)
    meant = tuple((name, count) for name, count in others if _may_be_meant(name, said))
    return OutputChoice(taken, meant) if taken and meant else ONE_OUTPUT


def _may_be_meant(name: str, said: bool) -> bool:
    """Tell whether an output may be the answer, beside one that is said to be scores or is not."""
    words = _words(name)
    return not words & _FEATURES and (not said or bool(words & _SCORES))


def _words(name: str) -> set[str]:
    return {*re.findall(r"[a-z]+", name.casefold())}
