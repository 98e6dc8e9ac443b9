"""The gradient of a tensor that is read more than once: the sum of what its readers return."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of


def total(builder: Builder, gradients: Sequence[Tensor]) -> Tensor:
    """Append the sum of some gradients of one tensor, at least one; their shapes are known."""
    gradients = _side_by_side(builder, gradients)
    if len(gradients) == 1:
        return gradients[0]
    # Sum broadcasts by itself: what was expanded need not be, as long as one of them was not.
    bare = [_before_expand(gradient) for gradient in gradients]
    if all(one is not gradient for one, gradient in zip(bare, gradients, strict=True)):
        bare[0] = gradients[0]
    return builder.op("Sum", *bare)


def _before_expand(gradient: Tensor) -> Tensor:
    if gradient.inputs and gradient.inputs[0].op == "Expand":
        expanded: Tensor = gradient.inputs[0].inputs[0]
        return expanded
    return gradient


def _side_by_side(builder: Builder, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Join the gradients of parts that make up the tensor: without zeros, and without a sum.

    So queries, keys and values leave one projection, and windows are shifted around a border.
    """
    parts: dict[int, list[tuple[int, int, Tensor]]] = {}
    rest: list[Tensor] = []
    for gradient in gradients:
        place = _place(gradient)
        if place is None:
            rest.append(gradient)
        else:
            axis, start, end, part = place
            parts.setdefault(axis, []).append((start, end, part))
    if len(parts) != 1:
        return list(gradients)
    ((axis, pieces),) = parts.items()
    pieces.sort(key=lambda piece: piece[0])
    edges = [0, *(end for _, end, _ in pieces)]
    whole = shape_of(gradients[0])
    if [start for start, _, _ in pieces] != edges[:-1] or edges[-1] != whole[axis]:
        return list(gradients)
    joined = builder.op("Concat", *(part for _, _, part in pieces), axis=axis, shape=whole)
    return [joined, *rest]


def _place(gradient: Tensor) -> tuple[int, int, int, Tensor] | None:
    """Return along which axis, and from where to where, a part lies in zeros; None if it does not.

    Of `Pad` nodes that a rule has made; they have no mode and no value but zero.
    """
    if not gradient.inputs or gradient.inputs[0].op != "Pad" or len(gradient.inputs[0].inputs) > 2:
        return None
    part, pads = gradient.inputs[0].inputs
    if gradient.inputs[0].attrs or not isinstance(pads, gs.Constant):
        return None
    before, after = np.split(pads.values, 2)
    axes = np.flatnonzero(before | after)
    if len(axes) != 1 or before.min() < 0 or after.min() < 0:
        return None
    axis = int(axes[0])
    return axis, int(before[axis]), shape_of(gradient)[axis] - int(after[axis]), part
