from typing import Any

import numpy as np
from onnx import TensorProto

class LazyValues:
    """Values of a message's tensor that are read when they are asked for."""

    shape: list[int]
    dtype: np.dtype[Any]
    def __init__(self, tensor: TensorProto) -> None: ...
