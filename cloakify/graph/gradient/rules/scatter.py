"""Operators that write to positions: ScatterElements and ScatterND, with their reductions."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.gradient.rules.static import zeros
from cloakify.graph.model.shapes import shape_of


@rule("ScatterElements", "Scatter", "ScatterND")
def scatter(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = x`` with updates u written to the indices, or joined with what stands there.

    With n elements (of x and u) at a position, g at that position goes

    - to u alone, where they are overwritten,
    - to every one, for a sum,
    - to those that equal y, in equal parts, for the largest or the smallest (as in torch),
    - to each with the product of the others, for a product.
    """
    (g,) = grads
    assert g is not None
    x, _, updates = node.inputs
    places = _Places(context, node)
    reduction = node.attrs.get("reduction", "none")
    if reduction in ("max", "min"):
        slopes = _shares(context, places, node)
    elif reduction == "mul":
        slopes = _products_of_others(context, places, node)
    else:
        kept = None
        if reduction == "none" and context.needs(x):
            kept = places.write(g, zeros(context, shape_of(updates), g))
        return [kept or g, None, places.read(g) if context.needs(updates) else None]
    of_x, of_updates = slopes
    return [
        context.mul(g, of_x) if context.needs(x) else None,
        None,
        context.mul(places.read(g), of_updates) if context.needs(updates) else None,
    ]


class _Places:
    """The positions that a node writes to."""

    def __init__(self, context: Context, node: gs.Node) -> None:
        self._context, self._indices = context, node.inputs[1]
        self._tuples = node.op == "ScatterND"
        self._axis = None if self._tuples else node.attrs.get("axis", 0)

    def read(self, tensor: Tensor) -> Tensor:
        """Return what stands at the positions of a tensor shaped as x."""
        op_type = "GatherND" if self._tuples else "GatherElements"
        return self._context.op(op_type, tensor, self._indices, axis=self._axis)

    def write(self, tensor: Tensor, updates: Tensor, reduction: str | None = None) -> Tensor:
        """Return a tensor shaped as x with updates at the positions."""
        op_type = "ScatterND" if self._tuples else "ScatterElements"
        return self._context.op(
            op_type, tensor, self._indices, updates, axis=self._axis, reduction=reduction
        )


def _shares(context: Context, places: _Places, node: gs.Node) -> tuple[Tensor, Tensor]:
    """Return 1/n for the n elements that equal the result at their position, else 0."""
    (x, _, updates), (y,) = node.inputs, node.outputs
    of_x = context.cast(context.compare("Equal", x, y), y.dtype)
    of_updates = context.cast(context.compare("Equal", updates, places.read(y)), y.dtype)
    count = places.write(of_x, of_updates, "add")
    return context.div(of_x, count), context.div(of_updates, places.read(count))


def _products_of_others(context: Context, places: _Places, node: gs.Node) -> tuple[Tensor, Tensor]:
    """Return each element's factor: the product of the others at its position.

    That is the product of those which are not 0, without the element itself, or 0 where another
    one is 0.
    """
    x, _, updates = node.inputs
    one = context.scalar(1.0, x)

    def parts(tensor: Tensor) -> tuple[Tensor, Tensor]:
        is_zero = context.compare("Equal", tensor, context.scalar(0.0, x))
        return context.cast(is_zero, x.dtype), context.where(is_zero, one, tensor)

    zero_x, rest_x = parts(x)
    zero_updates, rest_updates = parts(updates)
    count = places.write(zero_x, zero_updates, "add")
    product = places.write(rest_x, rest_updates, "mul")

    def others(is_zero: Tensor, rest: Tensor, count: Tensor, product: Tensor) -> Tensor:
        no_zero = context.cast(context.compare("Equal", count, is_zero), x.dtype)
        return context.mul(context.div(product, rest), no_zero)

    return (
        others(zero_x, rest_x, count, product),
        others(zero_updates, rest_updates, places.read(count), places.read(product)),
    )
