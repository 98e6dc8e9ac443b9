"""Weights are laid aside while a message is rewritten, so that no pass copies or reads them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

# Constants up to this many elements stay in the message while it is rewritten.
SMALL = 1024


def set_weights_aside(model: ModelProto) -> tuple[ModelProto, dict[str, TensorProto]]:
    """Split off the large initializers; in the skeleton they are inputs of known type and shape."""
    weights: dict[str, TensorProto] = {}
    skeleton = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(skeleton, field.name).extend(value)
        else:
            setattr(skeleton, field.name, value)
    for field, value in model.graph.ListFields():
        # Declared shapes of inner values are dropped: they hold for the symbolic sizes.
        if field.name in ("initializer", "value_info", "metadata_props"):
            continue
        if field.is_repeated:
            getattr(skeleton.graph, field.name).extend(value)
        else:
            setattr(skeleton.graph, field.name, value)
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims, dtype=np.int64) > SMALL:
            weights[tensor.name] = tensor
        else:
            skeleton.graph.initializer.append(tensor)
    # Up to IR version 3 an initializer is listed as an input too; only data inputs stay.
    constant = {tensor.name for tensor in model.graph.initializer}
    data = [value for value in skeleton.graph.input if value.name not in constant]
    del skeleton.graph.input[:]
    skeleton.graph.input.extend(data)
    for name, tensor in weights.items():
        skeleton.graph.input.append(
            onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        )
    # An initializer that is no input needs IR version 4.
    skeleton.ir_version = max(skeleton.ir_version, 10)
    return skeleton, weights
