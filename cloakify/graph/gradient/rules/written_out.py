"""Operators that are written out as others before gradients are taken.

Those met here could not be: they are refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_graphsurgeon as gs
from onnx import NodeProto

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph import attention, deform_conv, fused, grid_sample, recurrent
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context, rule
from cloakify.graph.writing import Shapes

Gradients = list[Tensor | None]

# Tells why a node can't be written out, the shapes of its tensors being known.
WhyNot = Callable[[NodeProto, Shapes], str | None]


def _refuse(why_not: WhyNot, *op_types: str, domain: str = "") -> None:
    @rule(*op_types, domain=domain)
    def refuse(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
        message = onnx.helper.make_node(
            node.op,
            [tensor.name for tensor in node.inputs],
            [tensor.name for tensor in node.outputs],
            domain=domain,
            **node.attrs,
        )
        tensors = [*node.inputs, *node.outputs]
        shapes = {
            tensor.name: tuple(tensor.shape) for tensor in tensors if tensor.shape is not None
        }
        reason = why_not(message, shapes) or "stands where it is not written out"
        raise UnsupportedOperatorError(
            f"{node.op} {node.name!r} {reason}; there is no gradient rule for that, and "
            "--attack square needs none"
        )


_refuse(attention.why_not, "Attention", "MultiHeadAttention", domain=fused.DOMAIN)
_refuse(fused.why_not, "FusedConv", "FusedGemm", "FusedMatMul", domain=fused.DOMAIN)
_refuse(deform_conv.why_not, "DeformConv")
_refuse(grid_sample.why_not, "GridSample")
_refuse(recurrent.why_not, "RNN", "GRU", "LSTM")
