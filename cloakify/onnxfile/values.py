"""The numbers of one tensor of a message, which may be damaged."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from cloakify.boundary import boundary
from cloakify.onnxfile.mapped import is_mapped, mapped_values


def values_of(tensor: TensorProto) -> NDArray[Any]:
    """Return a tensor's values.

    Raises
    ------
    ModelError
        They are not what its type and shape say, or stored in a way that onnx does not read.
    """
    if is_mapped(tensor):
        return mapped_values(tensor)
    with boundary(f"the tensor {tensor.name!r} can't be read"):
        values: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    return values
