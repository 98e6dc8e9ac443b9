"""The numbers of one tensor of a message, which may be damaged."""

from __future__ import annotations

import math
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from cloakify.boundary import boundary

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


def values_of(tensor: TensorProto) -> NDArray[Any]:
    """Return a tensor's values.

    Raises
    ------
    ModelError
        They are not what its type and shape say, or stored in a way that onnx does not read.
    """
    with boundary(f"the tensor {tensor.name!r} can't be read"):
        values: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    return values
