"""Where the gradient ends on its way from input to logits, though the values go on.

Behind an `ArgMax` or a `Round` the logits depend on the input as before, but in steps, and the
gradient sees only what goes around. That is how defences hide (Athalye, Carlini & Wagner, arXiv
1802.00420, section 3, shattered gradients), also where enough goes around to look like a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_graphsurgeon as gs
from onnx import TensorProto

from cloakify.graph.gradient.signed import is_given_back
from cloakify.graph.model.dataflow import SIZES, leading_to, values_made
from cloakify.onnxfile import FLOATS

# Steps. Comparisons are steps as well, but what they choose between may have gradients, as in a
# Relu that is written out: `x · (x > 0)`.
_STEPS = {"ArgMax", "ArgMin", "Ceil", "Floor", "Hardmax", "Round", "Sign"}
_COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
_LOGIC = {"And", "Not", "Or", "Xor"}
_LAYERS = {"Conv", "Gather", "Gemm", "MatMul"}
_JOINS = {"Add", "Concat", "Sub", "Sum"}


def blocked_at(graph: gs.Graph, source: gs.Tensor, logits: gs.Tensor) -> list[gs.Node]:
    """List the nodes at which gradients end that values pass, first to last.

    Parameters
    ----------
    graph
        In topological order.
    source, logits
        Where gradients are wanted, and of what.
    """
    needed = leading_to(graph.nodes, [logits.name], passes=_passes_values).values
    # Values that change with the source: those with a gradient, and yes-or-no of such a value.
    smooth, chosen = {source.name}, set[str]()
    ends_at = []
    for node in graph.nodes:
        inputs = [tensor.name for tensor in node.inputs]
        outputs = list(values_made(node))
        if not _passes_values(node) or not (_any(inputs, smooth) or _any(inputs, chosen)):
            continue
        if node.op in _COMPARISONS or node.op in _LOGIC or _is_question(node):
            chosen.update(outputs)
            continue
        if node.op == "Sign" and is_given_back(node):
            chosen.update(outputs)
            continue
        # What an end puts out is not looked for again.
        ends = _ends(node, inputs, smooth, chosen)
        if ends:
            ends_at += [node] * _any(outputs, needed)
        if _any(inputs, smooth) and not _is_step(node):
            smooth.update(outputs)
        elif not ends:
            # What is made of a yes or no alone may still switch something with a gradient.
            chosen.update(outputs)
    return ends_at


def _is_question(node: gs.Node) -> bool:
    """Tell whether a node asks which of its input's numbers are not 0."""
    return node.op == "Cast" and node.attrs.get("to") == TensorProto.BOOL


def _is_step(node: gs.Node) -> bool:
    """Tell whether nothing has a gradient that a node puts out.

    Whatever is no float that gradients are taken in is too coarse for them: whole numbers, and
    floats of eight bits and fewer.
    """
    whole = node.op == "Cast" and node.attrs.get("to") not in {*FLOATS, TensorProto.BOOL}
    return node.op in _STEPS or whole


def _ends(node: gs.Node, inputs: Sequence[str], smooth: set[str], chosen: set[str]) -> bool:
    """Tell whether values go on at a node in steps, of something with a gradient."""
    if _is_step(node):
        return _any(inputs, smooth)
    if node.op == "Where":
        # One of two constants.
        return inputs[0] in chosen and not (_any(inputs[1:], smooth) or _any(inputs[1:], chosen))
    # Steps that are weighed, or stand beside what has a gradient.
    return _any(inputs, chosen) and (
        node.op in _LAYERS or (node.op in _JOINS and _any(inputs, smooth))
    )


def _passes_values(node: gs.Node) -> bool:
    """Tell whether anything but sizes is read of a node's input."""
    return node.op not in SIZES


def _any(tensors: Iterable[str], among: set[str]) -> bool:
    return any(tensor in among for tensor in tensors)
