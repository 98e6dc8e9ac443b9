"""Cut a gradient model in two, so that whoever asks for logits first pays for no second forward.

    x  ->  logits, kept values          kept values, ∂loss/∂logits  ->  ∂loss/∂x

Frameworks with automatic differentiation call the model, compute a loss of their own, and ask for
the gradient afterwards, perhaps several times. The kept values are what the nodes of the second
half read from the first; since rules read a node's output where they can, there are few.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from cloakify.errors import ModelError
from cloakify.graph.attack_steps.build import GRADIENT, LOGITS, LOGITS_GRADIENT
from cloakify.graph.model.dataflow import leading_to, values_made, values_read


@dataclass(frozen=True)
class Halves:
    """The two halves of a gradient model.

    Attributes
    ----------
    forward
        The model's data input -> ``cloakify_logits`` and the kept values.
    backward
        Kept values, ``cloakify_logits_gradient`` and, where a rule reads it, the data input ->
        ``cloakify_gradient``.
    kept
        Names of the kept values.
    """

    forward: ModelProto
    backward: ModelProto
    kept: tuple[str, ...]


def cut_in_halves(model: ModelProto) -> Halves:
    """Cut what :func:`~cloakify.graph.attack_steps.build.build_gradient` built with ``loss=None``.

    Raises
    ------
    ModelError
        A kept value has no known type.
    """
    graph = model.graph
    first = leading_to(graph.node, [LOGITS]).nodes
    made = {name for node in first for name in values_made(node)}
    second = leading_to(graph.node, [GRADIENT], given=made).nodes
    read = list(dict.fromkeys(name for node in second for name in values_read(node)))
    kept = tuple(name for name in read if name in made)
    types = {value.name: value for value in graph.value_info}
    untyped = [name for name in kept if name not in types]
    if untyped:
        raise ModelError(f"the working graph has no type for {untyped[0]!r}")
    outputs = {value.name: value for value in graph.output}
    data = [value for value in graph.input if value.name != LOGITS_GRADIENT]
    forward = _part(model, first)
    forward.graph.input.extend(data)
    forward.graph.output.append(outputs[LOGITS])
    forward.graph.output.extend(types[name] for name in kept)
    backward = _part(model, second)
    backward.graph.input.extend(value for value in graph.input if value.name in read)
    backward.graph.input.extend(types[name] for name in kept)
    backward.graph.output.append(outputs[GRADIENT])
    return Halves(forward, backward, kept)


def _part(model: ModelProto, nodes: list[NodeProto]) -> ModelProto:
    """Return a model of these nodes and the initializers they read, with no inputs and outputs."""
    read = {name for node in nodes for name in values_read(node)}
    part = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    return part
