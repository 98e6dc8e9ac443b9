"""Which operators between input and logits have gradients, told without running or building any.

The model is asked as it stands, but for what lowering can write out by itself: functions, operators
of old opsets. What it does with shapes and constants is not done but foreseen: sizes that the file
leaves open get some number, and what follows from sizes alone counts as known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx import ModelProto, ValueInfoProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.inputs import data_inputs
from cloakify.graph.gradient.blocked import blocked_at
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.choices import choices_of
from cloakify.graph.gradient.refusals import refusals
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.data_dependent_shapes import passes_values, shaped_by_values
from cloakify.graph.lowering.pass_list import UNRUN
from cloakify.graph.lowering.specialise import lower
from cloakify.graph.lowering.state import Lowering, Shape
from cloakify.graph.model.branches import exposing
from cloakify.graph.model.dataflow import leading_to, reached_from
from cloakify.graph.model.imported import import_graph, infer_shapes

# What stands for sizes that a file leaves open, but for the number of samples.
_SOME_SIZE = 128

# Ends of gradients that secants go over, or shares: what is stepped there is a number, or chosen.
_PASSABLE = ("Cast", "Ceil", "Floor", "Hardmax", "Round", "Sign", "Where")


@dataclass(frozen=True)
class Coverage:
    """Gradient coverage of a model.

    Attributes
    ----------
    operators
        How many operators the model has.
    missing
        Those between input and logits that gradients can't be written for, ``OpType (node)``, with
        the reason where there is a rule for others of their kind; in graph order. And those whose
        result has a shape that depends on the data's values: some may still vanish when the shapes
        of the data are known and their arithmetic is folded.
    blocked
        Those at which the gradient ends though the values go on; see
        :mod:`~cloakify.graph.gradient.blocked`.
    passable
        Whether the attack ``apgd-bpda`` lets it pass some of those.
    """

    operators: int
    missing: tuple[str, ...]
    blocked: tuple[str, ...] = ()
    passable: bool = False


def gradient_coverage(model: ModelProto, source: str, logits: str, *more: str) -> Coverage:
    """Tell which operators between tensors of ``model`` and its logits have no gradient, and why.

    Parameters
    ----------
    source, more
        What is perturbed: a tensor, and others at the same time.
    logits
        What the loss is of.
    """
    return _joint([_coverage(model, each, logits) for each in (source, *more)])


def _joint(parts: list[Coverage]) -> Coverage:
    """Return what holds of several sources at once."""
    return replace(
        parts[0],
        missing=tuple(dict.fromkeys(each for part in parts for each in part.missing)),
        blocked=tuple(dict.fromkeys(each for part in parts for each in part.blocked)),
        passable=any(part.passable for part in parts),
    )


def _coverage(model: ModelProto, source: str, logits: str) -> Coverage:
    model = exposing(model, [logits])
    graph = import_graph(model)
    tensors = graph.tensors()
    if source not in tensors or logits not in tensors:
        return Coverage(0, (f"no way from {source!r} to {logits!r}",))
    missing = _refused(model, source, logits)
    data = [value.name for value in data_inputs(model)]
    needed = leading_to(model.graph.node, [logits]).nodes
    missing += [f"{node.op_type} ({node.name})" for node in shaped_by_values(needed, data)]
    ends = blocked_at(graph, tensors[source], tensors[logits])
    return Coverage(
        operators=len(graph.nodes),
        missing=tuple(dict.fromkeys(missing)),
        blocked=tuple(f"{node.op} ({node.name or node.outputs[0].name})" for node in ends),
        passable=any(node.op in _PASSABLE or choices_of(node) for node in ends),
    )


def _refused(model: ModelProto, source: str, logits: str) -> list[str]:
    sizes = {value.name: _some_shape(value) for value in data_inputs(model)}
    try:
        lowering = lower(model, sizes, has_rule, [logits], UNRUN)
        graph = import_graph(_inferred(lowering))
    except ModelError as error:
        # An attack would be told the same.
        return [str(error)]
    data = [value.name for value in lowering.model.graph.input]
    data = [name for name in data if name not in lowering.weights]
    moving = reached_from(lowering.model.graph.node, data, passes=passes_values).values

    def is_fixed(tensor: Tensor) -> bool:
        return tensor.name not in moving

    source, logits = (lowering.renamed.get(name, name) for name in (source, logits))
    return [
        str(refused)
        for refused in refusals(graph.nodes, [source], [logits], is_fixed, is_lowered=False)
    ]


def _some_shape(value: ValueInfoProto) -> Shape:
    """Return the shape that an input declares, with some number for what it leaves open."""
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return tuple(size or (_SOME_SIZE if axis else 1) for axis, size in enumerate(sizes))


def _inferred(lowering: Lowering) -> ModelProto:
    """Return the lowered message with what can be inferred for the sizes that were made up."""
    try:
        return infer_shapes(lowering.model, data_prop=True)
    except ModelError:
        # For other sizes it may be all right.
        return lowering.model
