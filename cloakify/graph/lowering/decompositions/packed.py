"""Quantised operators of ONNX Runtime, written out (domain ``com.microsoft``).

    QLinearSoftmax(x)      Quantize(Softmax(Dequantize(x)))
    MatMulNBits(A, B)      A Wᵀ [+ bias],   W = (unpacked B − zero point) · scale, block by block

B packs N rows of K numbers of 4 bits, the low half of a byte first, or of 8; each block of a row
has a scale and a zero point, 2³ or 2⁷ where none is given.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto

from cloakify.graph.model.rewrite import Shapes, Writer, attribute, given

OPERATORS = ("QLinearSoftmax", "MatMulNBits")

_INPUTS = {"QLinearSoftmax": 5, "MatMulNBits": 3}
_FIRST_OF_ONE_AXIS = 13


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a node can't be written out; ``None`` if it can."""
    if any(name not in shapes for name in node.input if name):
        return "reads a tensor of unknown shape"
    if len(node.input) < _INPUTS[node.op_type]:
        return "lacks inputs"
    if node.op_type == "QLinearSoftmax":
        last = attribute(node, "axis", -1) in (-1, len(shapes[node.input[0]]) - 1)
        several = not last and attribute(node, "opset", _FIRST_OF_ONE_AXIS) < _FIRST_OF_ONE_AXIS
        return "is taken over several axes" if several else None
    sizes = [attribute(node, name) for name in ("N", "K", "block_size")]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return "does not say its sizes"
    if attribute(node, "bits", 4) not in (4, 8):
        return f"has weights of {attribute(node, 'bits')} bits"
    return "has its columns in an order of their own" if given(node, 4) else None


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a node out; :func:`unsupported_reason` must have had nothing against it."""
    if node.op_type == "QLinearSoftmax":
        x, scale, zero, out_scale, out_zero = node.input
        real = writer.op("DequantizeLinear", x, scale, zero)
        shares = writer.op("Softmax", real, axis=attribute(node, "axis", -1))
        writer.op("QuantizeLinear", shares, out_scale, out_zero, output=node.output[0])
        return
    product = node.output[0] if not given(node, 5) else None
    weight = writer.op("Transpose", _unpacked(writer, node, shapes, types), perm=[1, 0])
    result = writer.op("MatMul", node.input[0], weight, output=product)
    if product is None:
        writer.op("Add", result, node.input[5], output=node.output[0])


def _unpacked(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> str:
    """Write the weights [N, K] out."""
    rows, columns = attribute(node, "N"), attribute(node, "K")
    block, bits = attribute(node, "block_size"), attribute(node, "bits", 4)
    blocks = -(-columns // block)
    kind = types.get(node.input[0], TensorProto.FLOAT)
    scales = writer.op("Reshape", node.input[2], writer.ints(rows, blocks, 1))
    numbers = _numbers(writer, node.input[1], bits, kind, (rows, blocks, block))
    if not given(node, 3):
        zeros = writer.op("Cast", writer.constant(np.array(float(1 << (bits - 1)))), to=kind)
    elif types.get(node.input[3], TensorProto.UINT8) == TensorProto.UINT8:
        # Rows of zero points are filled up to whole bytes.
        packed = -(-blocks * bits // 8) * (8 // bits)
        zeros = _numbers(writer, node.input[3], bits, kind, (rows, packed, 1))
        if packed > blocks:
            zeros = writer.op("Slice", zeros, writer.ints(0), writer.ints(blocks), writer.ints(1))
    else:
        zeros = writer.op("Reshape", node.input[3], writer.ints(rows, blocks, 1))
    real = writer.op("Mul", writer.op("Sub", numbers, zeros), scales)
    flat = writer.op("Reshape", real, writer.ints(rows, blocks * block))
    return writer.op("Slice", flat, writer.ints(0), writer.ints(columns), writer.ints(1))


def _numbers(writer: Writer, name: str, bits: int, kind: int, shape: tuple[int, int, int]) -> str:
    """Write packed numbers out in that shape, as floats of that type."""
    if bits == 4:
        column = writer.op("Reshape", name, writer.ints(-1, 1))
        low = writer.op("BitwiseAnd", column, writer.constant(np.array(15, np.uint8)))
        four = writer.constant(np.array(4, np.uint8))
        high = writer.op("BitShift", column, four, direction="RIGHT")
        name = writer.op("Concat", low, high, axis=1)
    return writer.op("Reshape", writer.op("Cast", name, to=kind), writer.ints(*shape))
