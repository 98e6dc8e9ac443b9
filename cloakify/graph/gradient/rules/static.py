"""Reading what a specialised graph fixes: constant inputs, axes, and the shapes that pads undo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.engine import Context


def given(node: gs.Node, place: int) -> bool:
    """Tell whether a node has its optional input number ``place``."""
    return len(node.inputs) > place and not node.inputs[place].is_empty()


def values(node: gs.Node, place: int, what: str) -> np.ndarray:
    """Return a constant input.

    Raises
    ------
    UnsupportedOperatorError
        It is computed from data.
    """
    tensor = node.inputs[place]
    if not isinstance(tensor, gs.Constant):
        raise UnsupportedOperatorError(
            f"{node.op} {node.name!r} computes its {what} from data; there is no gradient rule for "
            "that, and --attack square needs none"
        )
    found: np.ndarray = tensor.values
    return found


def integers(node: gs.Node, place: int, what: str) -> list[int]:
    """Return a constant integer input as a flat list.

    Raises
    ------
    UnsupportedOperatorError
        It is computed from data.
    """
    return [int(value) for value in values(node, place, what).ravel()]


def refuse_gradient(context: Context, node: gs.Node, places: Sequence[int], what: str) -> None:
    """Refuse a node that needs a gradient for inputs that the rule has none for.

    Raises
    ------
    UnsupportedOperatorError
        One of the inputs ``places`` depends on the data.
    """
    if any(given(node, place) and context.needs(node.inputs[place]) for place in places):
        raise UnsupportedOperatorError(
            f"{node.op} {node.name!r} computes its {what} from data; there is no gradient rule for "
            "that, and --attack square needs none"
        )


def resize_with_zeros(
    context: Context, g: Tensor, before: Sequence[int], after: Sequence[int]
) -> Tensor:
    """Add zeros at both ends of each axis, or cut where an amount is negative."""
    if not any(before) and not any(after):
        return g
    return context.op("Pad", g, context.ints(*before, *after))


def zeros(context: Context, shape: Sequence[int], like: Tensor) -> Tensor:
    """Return zeros that the message does not carry."""
    return context.op(
        "ConstantOfShape",
        context.ints(*shape),
        shape=shape,
        dtype=like.dtype,
        value=gs.Constant("zero", np.zeros(1, like.dtype)),
    )
