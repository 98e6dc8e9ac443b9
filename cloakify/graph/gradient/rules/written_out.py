"""Operators that are written out as others before gradients are taken.

Those met here could not be: they are refused, with the reason.
"""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule
from cloakify.graph.lowering.decompositions.catalogue import KINDS, WrittenOut

Gradients = list[Tensor | None]


def _refuse(kind: WrittenOut) -> None:
    @rule(*kind.op_types, domain=kind.domain)
    def refuse(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
        message = onnx.helper.make_node(
            node.op,
            [tensor.name for tensor in node.inputs],
            [tensor.name for tensor in node.outputs],
            domain=kind.domain,
            **node.attrs,
        )
        tensors = [*node.inputs, *node.outputs]
        shapes = {
            tensor.name: tuple(tensor.shape) for tensor in tensors if tensor.shape is not None
        }
        reason = kind.unsupported_reason(message, shapes) or "stands where it is not written out"
        raise UnsupportedOperatorError(
            f"{node.op} {node.name!r} {reason}; there is no gradient rule for that, and "
            "--attack square needs none"
        )


for _kind in KINDS:
    _refuse(_kind)
