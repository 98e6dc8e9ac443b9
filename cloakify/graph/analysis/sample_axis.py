"""Which axis of an input counts samples: the first, or the second as in [time, samples, features].

Recurrent layers and transformers of torch take sequences so unless `batch_first` is set, and their
exports with them. An answer has the samples in front, so that its first size tells them from the
steps in time: by name, or by the number, as onnx infers it where the file does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_graphsurgeon as gs
from onnx import ModelProto, ValueInfoProto

from cloakify.graph.analysis.inputs import data_inputs
from cloakify.graph.model.branches import write_out_branches
from cloakify.graph.model.shapes import import_with_shapes

Sizes = Sequence[int | str | None]


def sample_axes(model: ModelProto) -> dict[str, int]:
    """Return the axis that counts samples, 0 or 1, of each data input; 0 where nothing tells.

    Parameters
    ----------
    model
        Its weights need not be loaded. Shapes are inferred where what the file declares is not
        enough.
    """
    inputs = {value.name: _declared(value) for value in data_inputs(model)}
    answers = [_declared(value) for value in model.graph.output]
    leading = {sizes[0] for sizes in _answers(answers)} - {None}
    if all(len(sizes) < 2 or sizes[0] in leading for sizes in inputs.values()):
        return dict.fromkeys(inputs, 0)
    graph = import_with_shapes(write_out_branches(model))
    return {value.name: axis_of(graph, value.shape) for value in graph.inputs}


def axis_of(graph: gs.Graph, shape: Sizes | None) -> int:
    """Return the axis that counts samples, 0 or 1, of an input of a graph with inferred shapes."""
    answers = _answers([value.shape for value in graph.outputs])
    leading = {sizes[0] for sizes in answers} - {None}
    if shape is None or len(shape) < 2 or shape[0] in leading or shape[1] not in leading:
        return 0
    # One sample whose axis is left out of the answers, one for each of its positions.
    if shape[0] == 1:
        return 0
    # Of numbers alone, scores with the classes in front would look alike.
    return int(isinstance(shape[1], str) or not any(shape[0] in sizes for sizes in answers))


def samples_first(graph: gs.Graph, shape: Sizes) -> Sizes:
    """Return the shape of an input of such a graph, the size that counts samples in front."""
    axis = axis_of(graph, shape)
    return [shape[axis], *shape[:axis], *shape[axis + 1 :]]


def has_samples_second(features: gs.Tensor, scores: gs.Tensor) -> bool:
    """Tell whether features seem to be [steps, samples, …], by the scores, which have these first.

    A run tells for sure.
    """
    shape, leading = features.shape, (scores.shape or [None])[0]
    if shape is None or len(shape) < 3 or leading is None:
        return False
    return bool(shape[1] == leading and shape[0] != leading)


def _answers(outputs: Iterable[Sizes | None]) -> list[Sizes]:
    """Return the shapes of the answers: hidden states beside them have the axes of what goes in."""
    known = [sizes for sizes in outputs if sizes]
    return [sizes for sizes in known if len(sizes) <= 2] or known


def _declared(value: ValueInfoProto) -> list[int | str | None]:
    return [dim.dim_value or dim.dim_param or None for dim in value.type.tensor_type.shape.dim]
