"""How many bytes tensors take, told without their values."""

from __future__ import annotations

import math

import onnx
from onnx import ModelProto, TensorProto

# Bits of the types that share bytes.
_PACKED = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
_PACKED |= {"FLOAT6E2M3": 6, "FLOAT6E3M2": 6}


def packed_bits(tensor: TensorProto) -> int | None:
    """Return how many bits a value of a tensor takes where values share bytes, or ``None``."""
    return _PACKED.get(TensorProto.DataType.Name(tensor.data_type))


def raw_size(tensor: TensorProto) -> int:
    """Return how many bytes a tensor's values take, written one behind the other."""
    bits = packed_bits(tensor)
    if bits is None:
        bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-math.prod(tensor.dims) * bits // 8)


def weights_size(model: ModelProto) -> int:
    """Return how many bytes a message's weights take, in it or in sidecars.

    Not the whole message's size: beyond 2 GiB protobuf can't tell even that.
    """
    return sum(
        raw_size(tensor) if tensor.data_location == TensorProto.EXTERNAL else tensor.ByteSize()
        for tensor in model.graph.initializer
    )
