"""All operators that are written out as others, of which gradient rules are then enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from cloakify.graph.lowering.decompositions import (
    attention,
    deform_conv,
    fused,
    grid_sample,
    ml_steps,
    packed,
    recurrent,
    small,
    support_vectors,
    typed_like,
)
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import Shapes, Writer, replace_nodes
from cloakify.onnxfile.domains import MICROSOFT, ML, domain_of


@dataclass(frozen=True)
class WrittenOut:
    """One kind of them.

    Attributes
    ----------
    domain, op_types
        Which; the standard's domain is empty.
    unsupported_reason
        Tells why a node can't be written out, ``None`` if it can.
    write
        Writes a node out, the shapes and element types of its tensors being known.
    """

    domain: str
    op_types: tuple[str, ...]
    unsupported_reason: Callable[[NodeProto, Shapes], str | None]
    write: Callable[[Writer, NodeProto, Shapes, Mapping[str, int]], None]


KINDS = (
    WrittenOut(
        MICROSOFT,
        ("FusedConv", "FusedGemm", "FusedMatMul"),
        fused.unsupported_reason,
        fused.write,
    ),
    WrittenOut(
        MICROSOFT,
        ("Attention", "MultiHeadAttention"),
        attention.unsupported_reason,
        attention.write,
    ),
    WrittenOut(MICROSOFT, packed.OPERATORS, packed.unsupported_reason, packed.write),
    WrittenOut(MICROSOFT, small.OPERATORS, small.unsupported_reason, small.write),
    WrittenOut("", ("RNN", "GRU", "LSTM"), recurrent.unsupported_reason, recurrent.write),
    WrittenOut("", ("GridSample",), grid_sample.unsupported_reason, grid_sample.write),
    WrittenOut("", ("DeformConv",), deform_conv.unsupported_reason, deform_conv.write),
    WrittenOut("", typed_like.OPERATORS, typed_like.unsupported_reason, typed_like.write),
    WrittenOut(
        ML,
        ml_steps.OPERATORS,
        ml_steps.unsupported_reason,
        ml_steps.write,
    ),
    WrittenOut(
        ML,
        support_vectors.OPERATORS,
        support_vectors.unsupported_reason,
        support_vectors.write,
    ),
)

_BY_OPERATOR = {(kind.domain, op_type): kind for kind in KINDS for op_type in kind.op_types}


def write_out(model: ModelProto, shapes: Shapes, types: Mapping[str, int]) -> bool:
    """Replace the nodes that can be, in place; tell whether any was.

    Parameters
    ----------
    model
        A model whose shape arithmetic is folded.
    shapes, types
        The shape and the element type of each tensor known.
    """
    replacements: dict[int, list[NodeProto]] = {}
    names = names_in(model)
    for place, node in enumerate(model.graph.node):
        kind = _BY_OPERATOR.get((domain_of(node), node.op_type))
        if kind is None or kind.unsupported_reason(node, shapes) is not None:
            continue
        writer = Writer(names, node.op_type)
        kind.write(writer, node, shapes, types)
        replacements[place] = writer.nodes
        model.graph.initializer.extend(writer.constants)
    replace_nodes(model.graph, replacements)
    if replacements:
        # Outputs of theirs that nobody reads.
        needed = leading_to(model.graph.node, [value.name for value in model.graph.output]).nodes
        del model.graph.node[:]
        model.graph.node.extend(needed)
    return bool(replacements)
