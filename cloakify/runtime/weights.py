"""Hand a model's weights to ONNX Runtime beside the message, which protobuf limits to 2 GiB."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto

from cloakify.onnxfile import values_of

# Smaller tensors stay in the message: they may be shapes and axes, which the runtime reads early.
SMALL = 1024


def set_weights_aside(model: ModelProto) -> tuple[ModelProto, dict[str, ort.OrtValue]]:
    """Split a model into a message without its large initializers and these as values.

    The model itself is not changed and its weights are copied once. Types that numpy has no
    number type for (bfloat16, 4-bit integers, …) stay in the message.
    """
    skeleton = _without_initializers(model)
    weights: dict[str, ort.OrtValue] = {}
    for tensor in model.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        plain = np.dtype(dtype).kind in "fiu" and np.dtype(dtype).isbuiltin == 1
        if not plain or np.prod(tensor.dims, dtype=np.int64) < SMALL:
            skeleton.graph.initializer.append(tensor)
            continue
        values = np.ascontiguousarray(values_of(tensor))
        weights[tensor.name] = ort.OrtValue.ortvalue_from_numpy(values)
        skeleton.graph.initializer.append(_reference(tensor, values.nbytes))
    return skeleton, weights


def _without_initializers(model: ModelProto) -> ModelProto:
    """Copy all fields but the initializers; copying the whole would copy the weights."""
    bare = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(bare, field.name).extend(value)
        else:
            setattr(bare, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name == "initializer":
            continue
        if field.is_repeated:
            getattr(bare.graph, field.name).extend(value)
        else:
            setattr(bare.graph, field.name, value)
    return bare


def _reference(tensor: TensorProto, size: int) -> TensorProto:
    """Describe a tensor whose bytes come from elsewhere; the runtime wants a place, unread."""
    reference = TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", "in-memory"), ("offset", "0"), ("length", str(size))):
        reference.external_data.add(key=key, value=value)
    return reference
