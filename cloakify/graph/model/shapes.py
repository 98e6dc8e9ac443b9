"""Shapes of a model's inner values, as far as they can be told without running it."""

from __future__ import annotations

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.graph.model.imported import import_graph, infer_shapes
from cloakify.graph.model.weights import set_weights_aside


def import_with_shapes(model: ModelProto) -> gs.Graph:
    """Import a model; values whose shape the file does not declare have the one onnx infers.

    Sizes are whole numbers or the names of symbolic ones. What can't be inferred has no shape.
    """
    graph = import_graph(model)
    skeleton, _ = set_weights_aside(model)
    try:
        inferred = infer_shapes(skeleton, data_prop=True).graph
    except ModelError:
        # Whoever runs the model says where it contradicts itself.
        return graph
    tensors = graph.tensors()
    for value in (*inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        tensor = tensors.get(value.name)
        if isinstance(tensor, gs.Variable) and tensor.shape is None and kind.HasField("shape"):
            tensor.shape = [
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
                for dim in kind.shape.dim
            ]
    return graph


def static_shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    """Return a tensor's shape where all its sizes are numbers, else ``None``."""
    sizes = [size for size in tensor.shape or () if isinstance(size, int)]
    known = tensor.shape is not None and len(sizes) == len(tensor.shape)
    return tuple(sizes) if known else None


def shape_of(tensor: gs.Tensor) -> list[int]:
    """Return the shape of a tensor in a lowered graph, where all sizes are numbers."""
    shape = static_shape(tensor)
    assert shape is not None, tensor
    return list(shape)
