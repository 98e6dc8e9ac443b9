"""A working copy of a model with every shape fixed: what gradient rules are written against.

The shipped file keeps its symbolic sizes; attacks run on a copy that is specialised to the shapes
of the data. Fixing them turns the shape arithmetic that exporters emit (Shape, Gather, Concat,
Reshape, …) into constants, which leaves the rules no dynamic case. Nothing here changes what the
model computes, but for 16-bit floats, which become 32-bit ones so that gradients do not underflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.inliner
from onnx import ModelProto, TensorProto

from cloakify.boundary import boundary
from cloakify.errors import ModelError
from cloakify.graph.lowering.decompositions.catalogue import write_out
from cloakify.graph.lowering.fold_shapes import fold_shapes, known_values
from cloakify.graph.lowering.functions import Keep, expand_functions
from cloakify.graph.lowering.opset import modernise
from cloakify.graph.model.rewrite import cut
from cloakify.graph.model.weights import set_weights_aside
from cloakify.graph.model.working_graph import WorkingGraph, import_working
from cloakify.limits.stages import Stage
from cloakify.onnxfile import values_of
from cloakify.onnxfile.walk import iter_graphs

Shape = tuple[int, ...]

# Bytes of an input's number, at most.
_WIDEST = 8

_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def specialise(
    model: ModelProto,
    shapes: Mapping[str, Shape],
    keep: Keep | None = None,
    outputs: Sequence[str] | None = None,
) -> WorkingGraph:
    """Make a working copy of ``model`` for inputs of the given shapes.

    Parameters
    ----------
    model
        The model with its weights in it; it is not changed.
    shapes
        The shape of each data input, batch axis included.
    keep
        Function operators that it turns down are replaced by their bodies, and recurrent ones by
        their steps; by default all stay.
    outputs
        Names of the tensors wanted: what does not lead to them is dropped at once (labels and
        probabilities behind the logits, often in operators of other domains). By default the
        model's own outputs.

    Raises
    ------
    ModelError
        The shapes do not fit the model, or a tensor's shape can't be determined.
    """
    skeleton, weights = set_weights_aside(model)
    size = sum(tensor.ByteSize() for tensor in weights.values())
    fed = sum(_WIDEST * math.prod(shape) for shape in shapes.values())
    with Stage("writing it out for a batch", size, fed):
        skeleton = _inline(skeleton)
        if outputs is not None:
            cut(skeleton, outputs)
        skeleton = modernise(skeleton)
        _set_shapes(skeleton, shapes)
        _widen(skeleton, weights)
        if keep is not None:
            skeleton = expand_functions(skeleton, keep)
        skeleton = fold_shapes(skeleton, weights)
        if keep is not None and write_out(skeleton, *known_values(skeleton)):
            skeleton = fold_shapes(skeleton, weights)
        return import_working(skeleton, weights)


def _inline(model: ModelProto) -> ModelProto:
    if not model.functions:
        return model
    # Functions may be written for other opsets than the graph that calls them.
    with boundary("its functions can't be written out"):
        return onnx.inliner.inline_local_functions(model, convert_version=True)


def _set_shapes(model: ModelProto, shapes: Mapping[str, Shape]) -> None:
    for value in model.graph.input:
        if value.name not in shapes:
            continue
        dims = value.type.tensor_type.shape.dim
        wanted = shapes[value.name]
        declared = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
        if len(wanted) != len(dims) or any(
            known and known != size for known, size in zip(declared, wanted, strict=True)
        ):
            raise ModelError(
                f"input {value.name!r} takes shape {_text(declared)}, not {_text(wanted)}"
            )
        for dim, size in zip(dims, wanted, strict=True):
            dim.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _text(shape: tuple[int, ...] | list[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape)


def _widen(model: ModelProto, weights: dict[str, TensorProto]) -> None:
    """Turn float16 and bfloat16 into float32 everywhere."""

    def wide(tensor: TensorProto) -> TensorProto:
        if tensor.data_type not in _HALF:
            return tensor
        values = values_of(tensor).astype(np.float32)
        return onnx.numpy_helper.from_array(values, tensor.name)

    for name in list(weights):
        weights[name] = wide(weights[name])
    for tensor in model.graph.initializer:
        tensor.CopyFrom(wide(tensor))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in _HALF:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = (node for graph in iter_graphs(model.graph) for node in graph.node)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(wide(attribute.t))
            elif attribute.name in ("to", "dtype") and attribute.i in _HALF:
                attribute.i = TensorProto.FLOAT
