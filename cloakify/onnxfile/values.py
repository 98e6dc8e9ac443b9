"""The numbers of one tensor of a message, which may be damaged."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from cloakify.boundary import boundary


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
