"""Operators that lowering writes out as others: what is met of them in a lowered graph has no rule.

Before that, those are supported that will be written out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, Situation, Supports, rule, rule_of
from cloakify.graph.lowering.control_flow import MOST_NODES
from cloakify.graph.lowering.decompositions.catalogue import KINDS, WrittenOut
from cloakify.graph.lowering.sequences import MAKERS, READERS
from cloakify.graph.model.constants import given
from cloakify.graph.model.dataflow import reached_from
from cloakify.graph.model.shapes import static_shape


def _is_written_out(kind: WrittenOut) -> Supports:
    def supports(node: gs.Node, at: Situation) -> str | None:
        message = onnx.helper.make_node(
            node.op,
            [tensor.name for tensor in node.inputs],
            [tensor.name for tensor in node.outputs],
            domain=kind.domain,
            **_told(node.attrs),
        )
        shapes = {
            tensor.name: shape
            for tensor in (*node.inputs, *node.outputs)
            if (shape := static_shape(tensor)) is not None
        }
        if not at.is_lowered and any(name and name not in shapes for name in message.input):
            # That is for later to see.
            return None
        reason = kind.unsupported_reason(message, shapes)
        return reason or ("stands where it is not written out" if at.is_lowered else None)

    return supports


def _told(attributes: Mapping[str, object]) -> dict[str, Any]:
    """Return attributes as a message takes them, without those that none of these operators reads.

    A strange model may have any attribute at any node. Of an empty list the type of what it does
    not hold can't be told.
    """
    told: dict[str, Any] = {}
    for key, value in attributes.items():
        values = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, gs.Constant):
            told[key] = onnx.numpy_helper.from_array(value.values)
        elif values and all(isinstance(each, int | float | str | bytes) for each in values):
            told[key] = value
    return told


def _branch_is_known(node: gs.Node, at: Situation) -> str | None:
    if not at.is_fixed(node.inputs[0]):
        return "chooses by the values of the data"
    return _lacks_rules(node, at)


def _course_is_known(node: gs.Node, at: Situation) -> str | None:
    if node.op == "Loop" and not all(map(at.is_fixed, node.inputs[:2])):
        return "goes on for as long as the values of the data say"
    return _lacks_rules(node, at)


def _lacks_rules(node: gs.Node, at: Situation) -> str | None:
    """Say what is in a subgraph that has no rule."""
    if at.is_lowered:
        return f"ends by itself, or takes more than {MOST_NODES} nodes"
    missing: set[str] = set()
    for body in node.attrs.values():
        if isinstance(body, gs.Graph):
            read = [tensor for inner in body.nodes for tensor in inner.inputs if at.needs(tensor)]
            sources = [tensor.name for tensor in (*body.inputs, *read)]
            moving = reached_from(body.nodes, sources).nodes
            missing.update(inner.op for inner in moving if rule_of(inner) is None)
    return f"holds {', '.join(sorted(missing))}" if missing else None


def _is_of_known_course(node: gs.Node, at: Situation) -> str | None:
    """Say why an operator on sequences stays, as far as is seen before sizes are known."""
    if at.is_lowered:
        return "makes or reads a sequence whose course is not known before the data"
    takes = node.op not in ("SequenceConstruct", "SequenceEmpty", "SplitToSequence")
    if takes and not (node.inputs[0].inputs and node.inputs[0].inputs[0].op in MAKERS):
        return "reads a sequence that is made elsewhere"
    place = {"SequenceInsert": 2, "SplitToSequence": 1}.get(node.op, 1)
    sized = node.op not in ("ConcatFromSequence", "SequenceConstruct")
    if sized and given(node, place) and not at.is_fixed(node.inputs[place]):
        return "computes a position or sizes from data"
    return None


def _not_called(context: Context, node: gs.Node, grads: Gradients) -> Sequence[Tensor | None]:
    raise AssertionError(f"{node.op} is not supported in a lowered graph")


for _kind in KINDS:
    rule(*_kind.op_types, domain=_kind.domain, supports=_is_written_out(_kind))(_not_called)
rule(*MAKERS, *READERS, supports=_is_of_known_course)(_not_called)
rule("If", supports=_branch_is_known)(_not_called)
rule("Loop", "Scan", supports=_course_is_known)(_not_called)
