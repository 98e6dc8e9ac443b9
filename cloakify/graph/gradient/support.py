"""What gradient rules support: the questions that several of them ask of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.rule import Situation, Supports
from cloakify.graph.model.constants import given


def all_of(*questions: Supports) -> Supports:
    """Return what is supported where each of some questions has nothing against it."""

    def supports(node: gs.Node, at: Situation) -> str | None:
        reasons = (question(node, at) for question in questions)
        return next((reason for reason in reasons if reason is not None), None)

    return supports


def no_gradient_for(places: Sequence[int], what: str) -> Supports:
    """Return what is supported where no input at these places needs a gradient."""

    def supports(node: gs.Node, at: Situation) -> str | None:
        needed = any(given(node, place) and at.needs(node.inputs[place]) for place in places)
        return f"computes its {what} from data" if needed else None

    return supports


def known(inputs: Mapping[int, str]) -> Supports:
    """Return what is supported where inputs are known while a gradient is written.

    ``inputs`` says what the input at each place is.
    """

    def supports(node: gs.Node, at: Situation) -> str | None:
        for place, what in inputs.items():
            if given(node, place) and not at.is_fixed(node.inputs[place]):
                return f"computes its {what} from data"
        return None

    return supports


def no_gradient_through(places: Sequence[int], what: str) -> Supports:
    """Return what is supported where no gradient flows back to the outputs at these places."""

    def supports(node: gs.Node, at: Situation) -> str | None:
        used = any(at.arrives(node.outputs[place]) for place in places if place < len(node.outputs))
        return f"has {what} that the logits depend on" if used else None

    return supports


def without(attribute: str, reason: str) -> Supports:
    """Return what is supported where an attribute is 0 or not there, else ``reason``."""

    def supports(node: gs.Node, at: Situation) -> str | None:
        return reason if node.attrs.get(attribute, 0) else None

    return supports
