"""Weights are laid aside while a message is rewritten, so that no pass copies or reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto

from cloakify.errors import ModelError
from cloakify.onnxfile import values_of

# Constants up to this many elements stay in the message: they may be shapes and axes.
SMALL = 1024

# By name.
Weights: TypeAlias = dict[str, TensorProto]


def is_large(tensor: TensorProto) -> bool:
    """Tell whether a constant has more than :data:`SMALL` elements."""
    return math.prod(tensor.dims) > SMALL


def split_weights(
    model: ModelProto, is_weight: Callable[[TensorProto], bool] = is_large
) -> tuple[ModelProto, Weights]:
    """Split a message into one without the initializers that are weights, and these.

    Copying the whole would copy the weights; the model itself is not changed.
    """
    skeleton = ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy_field(skeleton, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy_field(skeleton.graph, field.name, value)
    weights: Weights = {}
    for tensor in model.graph.initializer:
        if is_weight(tensor):
            weights[tensor.name] = tensor
        else:
            skeleton.graph.initializer.append(tensor)
    return skeleton, weights


def _copy_field(message: ModelProto | GraphProto, name: str, value: Any) -> None:
    """Set a number or text, or extend a list: a model and its graph have no other fields."""
    if isinstance(value, bytes):
        # A name or remark that is no text, and can't be set; nothing goes by it.
        return
    if isinstance(value, int | str):
        setattr(message, name, value)
    else:
        getattr(message, name).extend(value)


def dense(sparse: SparseTensorProto) -> TensorProto:
    """Write a sparse tensor out; indices are one number each, or one for each axis.

    What it may grow to was looked at when the file was opened.

    Raises
    ------
    ModelError
        Its indices are not those of its values, or lie outside its shape.
    """
    values, indices = values_of(sparse.values), values_of(sparse.indices)
    whole = np.zeros(list(sparse.dims), values.dtype)
    count, name = values.size, sparse.values.name
    shapes = (count,), (count, whole.ndim)
    if values.ndim != 1 or indices.dtype.kind not in "iu" or indices.shape not in shapes:
        raise ModelError(f"the sparse tensor {name!r} has not an index for each of its values")
    ends = whole.size if indices.ndim == 1 else np.array(whole.shape)
    if (indices < 0).any() or (indices >= ends).any():
        raise ModelError(f"the sparse tensor {name!r} has values outside its shape")
    if indices.ndim == 1:
        whole.reshape(-1)[indices] = values
    else:
        whole[tuple(indices.T)] = values
    return onnx.numpy_helper.from_array(whole, sparse.values.name)


def set_weights_aside(model: ModelProto) -> tuple[ModelProto, Weights]:
    """Split off the large initializers; in the skeleton they are inputs of known type and shape.

    Declared shapes of inner values are dropped: they hold for the symbolic sizes. The standard's
    domain goes by its short name: "" and "ai.onnx" are one.
    """
    skeleton, weights = split_weights(model)
    for sparse in skeleton.graph.sparse_initializer:
        tensor = dense(sparse)
        if is_large(tensor):
            weights[tensor.name] = tensor
        else:
            skeleton.graph.initializer.append(tensor)
    del skeleton.graph.sparse_initializer[:]
    del skeleton.graph.value_info[:]
    del skeleton.graph.metadata_props[:]
    drop_inputs(skeleton, (tensor.name for tensor in model.graph.initializer))
    for name, tensor in weights.items():
        skeleton.graph.input.append(
            onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        )
    _name_domain(skeleton)
    _forget_impossible_sizes(skeleton)
    # An initializer that is no input needs IR version 4.
    skeleton.ir_version = max(skeleton.ir_version, 10)
    return skeleton, weights


def drop_inputs(model: ModelProto, names: Iterable[str]) -> None:
    """Take constants out of the inputs, in place: up to IR version 3 each is listed there too."""
    constants = set(names)
    data = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(data)


def _forget_impossible_sizes(skeleton: ModelProto) -> None:
    """Make unknown, in place, what is below 0: Paddle's exporters write -1 for a size left open."""
    for value in (*skeleton.graph.input, *skeleton.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")


def _name_domain(skeleton: ModelProto) -> None:
    """Write the standard's domain as "", in place; of nodes only where one goes by the other."""
    versions = {entry.domain: entry.version for entry in skeleton.opset_import}
    if "ai.onnx" not in versions:
        return
    versions[""] = max(versions.pop("ai.onnx"), versions.get("", 0))
    del skeleton.opset_import[:]
    skeleton.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()
    )
