"""What onnx and onnx-graphsurgeon make of a message; where they can't, one line says so."""

from __future__ import annotations

import onnx
import onnx.shape_inference
import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.boundary import boundary


def import_graph(model: ModelProto) -> gs.Graph:
    """Return a model as a graph of nodes and tensors that know of each other.

    Sizes below 0, which some exporters write where a size is left open, are unknown ones.

    Raises
    ------
    ModelError
        onnx-graphsurgeon can't read it.
    """
    with boundary("the graph can't be read"):
        graph = gs.import_onnx(model)
    for value in (*graph.inputs, *graph.outputs):
        if isinstance(value, gs.Variable) and value.shape is not None:
            value.shape = [
                None if isinstance(size, int) and size < 0 else size for size in value.shape
            ]
    return graph


def infer_shapes(model: ModelProto, *, data_prop: bool = False) -> ModelProto:
    """Return a copy of a model with the types and shapes that onnx infers of its inner values.

    Parameters
    ----------
    model
        Its large weights had better be laid aside: the whole is copied twice.
    data_prop
        Whether the values of shape arithmetic are followed, too.

    Raises
    ------
    ModelError
        The model contradicts itself.
    """
    with boundary("the model contradicts itself"):
        return onnx.shape_inference.infer_shapes(model, data_prop=data_prop)
