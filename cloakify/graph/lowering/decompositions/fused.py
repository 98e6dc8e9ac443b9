"""Products that ONNX Runtime's optimiser has fused, taken apart into standard operators.

Domain ``com.microsoft``, as in models that the runtime has saved:

    FusedMatMul(A, B)      alpha · op(A) op(B)         FusedGemm(A, B, C)   act(Gemm(A, B, C))
    FusedConv(X, W, B, Z)  act(Conv(X, W, B) + Z)

where op transposes the last two axes, if asked to. Gradient rules then follow from those of the
parts. A FusedMatMul that moves its first axis, or another activation, stays as it is (and has no
gradient rule).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from cloakify.graph.model.rewrite import Shapes, Writer, attribute

_BASE = {"FusedGemm": "Gemm", "FusedConv": "Conv"}
# Activations with the attributes that take their parameters, in order.
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}
_MOVED = ("transBatchA", "transBatchB")


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Take a fused node apart; :func:`unsupported_reason` must have had nothing against it."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(types[node.input[0]])
    if node.op_type == "FusedMatMul":
        _write_product(writer, node, shapes, dtype)
    else:
        _write_activated(writer, node, dtype)


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a fused node can't be taken apart; ``None`` if it can."""
    if any(name not in shapes for name in node.input[:2]):
        return "reads a tensor of unknown shape"
    if any(attribute(node, name, 0) for name in _MOVED):
        return "moves its first axis"
    activation = attribute(node, "activation", "")
    return f"has the activation {activation!r}" if activation not in ("", *_ACTIVATIONS) else None


def _write_product(writer: Writer, node: NodeProto, shapes: Shapes, dtype: np.dtype) -> None:
    factors = []
    for name, turned in zip(node.input[:2], ("transA", "transB"), strict=True):
        axes = list(range(len(shapes[name])))
        if attribute(node, turned, 0) and len(axes) > 1:
            axes[-2:] = axes[:-3:-1]
            name = writer.op("Transpose", name, perm=axes)
        factors.append(name)
    alpha = attribute(node, "alpha", 1.0)
    if alpha == 1:
        writer.op("MatMul", *factors, output=node.output[0])
        return
    product = writer.op("MatMul", *factors)
    writer.op("Mul", product, writer.constant(np.array(alpha, dtype)), output=node.output[0])


def _write_activated(writer: Writer, node: NodeProto, dtype: np.dtype) -> None:
    activation = attribute(node, "activation", "")
    own = [entry for entry in node.attribute if not entry.name.startswith("activation")]
    result = writer.name()
    base = NodeProto(
        op_type=_BASE[node.op_type], input=node.input[:3], output=[result], attribute=own
    )
    writer.nodes.append(base)
    if len(node.input) > 3 and node.input[3]:
        result = writer.op("Add", result, node.input[3])
    if not activation:
        writer.op("Identity", result, output=node.output[0])
        return
    parameters = _parameters(node, _ACTIVATIONS[activation])
    if activation == "Clip":
        bounds = [writer.constant(np.array(value, dtype)) for value in parameters.values()]
        writer.op("Clip", result, *bounds, output=node.output[0])
    else:
        writer.op(activation, result, output=node.output[0], **parameters)


def _parameters(node: NodeProto, names: Sequence[str]) -> dict[str, Any]:
    """Return an activation's parameters: FusedConv lists them, FusedGemm names each."""
    listed = attribute(node, "activation_params")
    if listed is not None:
        return dict(zip(names, listed, strict=False))
    given = {name: attribute(node, f"activation_{name}") for name in names}
    return {name: value for name, value in given.items() if value is not None}
