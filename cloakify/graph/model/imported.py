"""What onnx and onnx-graphsurgeon make of a message; where they can't, one line says so."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.shape_inference
import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.boundary import boundary
from cloakify.limits.stages import Stage
from cloakify.onnxfile import FLOATS
from cloakify.onnxfile.sizes import weights_size


def import_graph(model: ModelProto) -> gs.Graph:
    """Return a model as a graph of nodes and tensors that know of each other.

    Sizes below 0, which some exporters write where a size is left open, are unknown ones. A value's
    type is one of NumPy's, the standard's number of one that NumPy lacks (0 where the file names
    none), or ``None``.

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
    for value in graph.tensors().values():
        if isinstance(value, gs.Variable) and not isinstance(value.dtype, int | np.dtype):
            # Of maps and other containers the whole description is handed over.
            value.dtype = None
    return graph


def is_float(tensor: gs.Tensor) -> bool:
    """Tell whether a tensor holds floats, as far as the file says; what it says nothing of may."""
    kind: object = tensor.dtype
    if kind is None or isinstance(kind, int):
        return not kind or kind in FLOATS
    return np.issubdtype(tensor.dtype, np.floating)


def infer_shapes(model: ModelProto, *, data_prop: bool = False) -> ModelProto:
    """Return a copy of a model with the types and shapes that onnx infers of its inner values.

    Sizes below 0 are left open.

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
    # What a model computes on vectors is followed number by number, however long these are.
    with (
        Stage("inferring its shapes", weights_size(model)),
        boundary("the model contradicts itself"),
    ):
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=data_prop)
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            # What is cut by more than there is has a size below 0 for onnx, and none when it runs.
            if dim.dim_value < 0:
                dim.ClearField("dim_value")
    return inferred
