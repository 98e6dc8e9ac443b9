"""A working copy of a model with every shape fixed: what gradient rules are written against.

The shipped file keeps its symbolic sizes; attacks run on a copy that is specialised to the shapes
of the data. Fixing them turns the shape arithmetic that exporters emit (Shape, Gather, Concat,
Reshape, …) into constants, which leaves the rules no dynamic case. How that is done is the list of
:mod:`~cloakify.graph.lowering.pass_list`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx import ModelProto

from cloakify.graph.lowering.pass_list import PASSES, Pass
from cloakify.graph.lowering.state import Keep, Lowering, Shape
from cloakify.graph.model.weights import set_weights_aside
from cloakify.graph.model.working_graph import WorkingGraph, import_working
from cloakify.limits.stages import Stage
from cloakify.onnxfile.sizes import weights_size

# Bytes of an input's number, at most.
_WIDEST = 8


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
    with bounds("writing it out for a batch", model, shapes):
        lowering = lower(model, shapes, keep, outputs, PASSES)
        working = import_working(lowering.model, lowering.weights)
    working.renamed.update(lowering.renamed)
    return working


def bounds(step: str, model: ModelProto, shapes: Mapping[str, Shape]) -> Stage:
    """Return what bounds a step of writing graphs for inputs of these shapes; a context."""
    fed = sum(_WIDEST * math.prod(shape) for shape in shapes.values())
    return Stage(step, weights_size(model), fed)


def lower(
    model: ModelProto,
    shapes: Mapping[str, Shape],
    keep: Keep | None,
    outputs: Sequence[str] | None,
    passes: Sequence[Pass],
) -> Lowering:
    """Take a copy of a model through some passes; see :func:`specialise`."""
    skeleton, weights = set_weights_aside(model)
    lowering = Lowering(skeleton, weights, shapes, keep, outputs)
    for step in passes:
        step.run(lowering)
    return lowering
