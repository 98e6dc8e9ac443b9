from typing import Any

import numpy as np
from onnx import TensorProto

class LazyValues:
    """Values of a message's tensor that are read when they are asked for."""

    shape: list[int]
    dtype: np.dtype[Any]
    tensor: TensorProto
    def __init__(self, tensor: TensorProto) -> None: ...
