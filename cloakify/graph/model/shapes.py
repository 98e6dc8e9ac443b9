"""Shapes of a model's inner values, as far as they can be told without running it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.graph.model.imported import import_graph, infer_shapes
from cloakify.graph.model.weights import set_weights_aside

# What symbolic sizes are tried with, batch first. Each grows by another number in the second trial,
# so that what a graph adds to one makes none of another. Few samples, as onnx follows every number
# of a vector: one of all their positions would take gigabytes.
_TRIALS = ((11, 10_037, 1031, 1033), (13, 10_061, 1049, 1061))

Size = int | str | None


def import_with_shapes(model: ModelProto) -> gs.Graph:
    """Import a model; values whose shape the file does not declare have the one onnx infers.

    Sizes are whole numbers, the names of symbolic ones of the inputs, or ``None``. What can't be
    inferred has no shape.

    Notes
    -----
    Exporters compute shapes from those of the inputs, and onnx can't follow symbols through that.
    So numbers are put in the place of symbols, and others a second time: a size that does not
    change is fixed, and one that is the symbol's number both times is the symbol's.
    """
    graph = import_graph(model)
    symbols = _name_sizes(graph)
    try:
        # Where nothing is symbolic one trial tells all there is.
        tried = _TRIALS if symbols else _TRIALS[:1]
        trials = [
            _inferred(model, graph, dict(zip(symbols, sizes, strict=False))) for sizes in tried
        ]
    except ModelError:
        # Whoever runs the model says where it contradicts itself.
        return graph
    named: dict[tuple[Size, Size], str] = dict(
        zip(zip(*_TRIALS, strict=True), symbols, strict=False)
    )
    tensors = graph.tensors()
    for name in trials[0].keys() & trials[-1].keys():
        tensor, shapes = tensors.get(name), (trials[0][name], trials[-1][name])
        if not isinstance(tensor, gs.Variable) or len(set(map(len, shapes))) > 1:
            continue
        pairs = zip(*shapes, strict=True)
        sizes = [one if one == other else named.get((one, other)) for one, other in pairs]
        if _is_contradicted(tensor, sizes):
            # As where another layer was put in; ONNX Runtime does not go by it either.
            tensor.shape = sizes
        elif not _is_declared(graph, tensor):
            tensor.shape = _with_declared(sizes, tensor.shape)
    return graph


def _is_contradicted(tensor: gs.Variable, inferred: list[Size]) -> bool:
    """Tell whether a declared shape has other sizes than those that must come out, or more."""
    declared = tensor.shape
    if declared is None:
        return False
    return len(declared) != len(inferred) or any(
        isinstance(said, int) and isinstance(own, int) and said != own
        for said, own in zip(declared, inferred, strict=True)
    )


def _is_declared(graph: gs.Graph, tensor: gs.Variable) -> bool:
    """Tell whether the file says all of a shape; names that are no input's say nothing."""
    own = {size for value in graph.inputs for size in value.shape or ()}
    return tensor.shape is not None and all(
        isinstance(size, int) or size in own for size in tensor.shape
    )


def _with_declared(inferred: list[Size], declared: Sequence[Size] | None) -> list[Size]:
    """Return a shape in which sizes that were not found are those that the file declares."""
    if declared is None or len(declared) != len(inferred):
        return inferred
    known = (size if isinstance(size, int) else None for size in declared)
    return [own if own is not None else size for own, size in zip(inferred, known, strict=True)]


def _name_sizes(graph: gs.Graph) -> list[str]:
    """Name what is not known of the inputs' sizes; return all names, the batch's first."""
    data = [value for value in graph.inputs if isinstance(value, gs.Variable) and value.shape]
    for number, value in enumerate(data):
        value.shape = [
            size or (f"size {axis} of input {number}" if axis else "batch")
            for axis, size in enumerate(value.shape or ())
        ]
    shapes = [list(value.shape or ()) for value in data]
    first = [shape[0] for shape in shapes]
    rest = [size for shape in shapes for size in shape[1:]]
    return list(dict.fromkeys(size for size in first + rest if isinstance(size, str)))


def _inferred(model: ModelProto, graph: gs.Graph, sizes: dict[str, int]) -> dict[str, list[Size]]:
    """Return the shapes that onnx infers with numbers for the inputs' symbolic sizes."""
    skeleton, _ = set_weights_aside(model)
    shapes = {value.name: value.shape for value in graph.inputs if isinstance(value, gs.Variable)}
    for value in skeleton.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes.get(value.name) or (), strict=False):
            if size in sizes:
                dim.dim_value = sizes[size]
    for value in skeleton.graph.output:
        # What is declared of outputs is said in symbols.
        value.type.tensor_type.ClearField("shape")
    inferred = infer_shapes(skeleton, data_prop=True).graph
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*inferred.value_info, *inferred.output)
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
    }


def static_shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    """Return a tensor's shape where all its sizes are numbers, else ``None``."""
    sizes = [size for size in tensor.shape or () if isinstance(size, int)]
    known = tensor.shape is not None and len(sizes) == len(tensor.shape)
    return tuple(sizes) if known else None


def shape_of(tensor: gs.Tensor) -> list[int]:
    """Return the shape of a tensor in a lowered graph, where all sizes are numbers.

    Raises
    ------
    ModelError
        The file contradicts itself: they are not.
    """
    shape = static_shape(tensor)
    if shape is None:
        raise ModelError(f"the sizes of {tensor.name!r} can't be told, whatever those of the input")
    return list(shape)
