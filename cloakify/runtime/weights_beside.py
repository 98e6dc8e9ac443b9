"""Hand a model's weights to ONNX Runtime beside the message, which protobuf limits to 2 GiB."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto

from cloakify.graph.model.weights import is_large, split_weights
from cloakify.onnxfile import values_of


def weights_as_values(model: ModelProto) -> tuple[ModelProto, dict[str, ort.OrtValue]]:
    """Split a model into a message without its large initializers and these as values.

    The model itself is not changed and its weights are copied once. Types that numpy has no
    number type for (bfloat16, 4-bit integers, …) stay in the message.
    """
    skeleton, weights = split_weights(model, lambda tensor: is_large(tensor) and _is_plain(tensor))
    values: dict[str, ort.OrtValue] = {}
    for name, tensor in weights.items():
        array = np.ascontiguousarray(values_of(tensor))
        values[name] = ort.OrtValue.ortvalue_from_numpy(array)
        skeleton.graph.initializer.append(_reference(tensor, array.nbytes))
    return skeleton, values


def _is_plain(tensor: TensorProto) -> bool:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return dtype.kind in "fiu" and dtype.isbuiltin == 1


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
