"""A working copy of a model on its way through the passes, and what it is made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from onnx import ModelProto, ValueInfoProto

from cloakify.graph.model.weights import Weights

Shape: TypeAlias = tuple[int, ...]

# Tells whether an operator, given its domain and type, may stay as it is.
Keep: TypeAlias = Callable[[str, str], bool]


@dataclass
class Lowering:
    """What the passes work on; each changes it in place.

    Attributes
    ----------
    model
        The message, its large weights declared as inputs.
    weights
        Those weights, by name.
    inputs
        The shape that each data input is to have, batch axis included.
    keep
        Which operators may stay; ``None`` for all of them.
    outputs
        The values that are wanted, as they are called in ``model``; ``None`` for its own outputs.
    renamed
        What values are called in ``model`` that had another name before.
    shapes, types
        The shape, where static, and the element type of each value, since they were last inferred.
    observed
        Types and shapes of values that inference can't tell, read off a run.
    """

    model: ModelProto
    weights: Weights
    inputs: Mapping[str, Shape]
    keep: Keep | None = None
    outputs: Sequence[str] | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    observed: list[ValueInfoProto] = field(default_factory=list)
