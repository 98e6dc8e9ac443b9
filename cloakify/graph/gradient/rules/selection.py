"""Elementwise choices: Where, Clip, Min, Max.

What is not differentiable at a tie gets one of its one-sided derivatives there; each rule says
which.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.gradient.rules.arithmetic import like
from cloakify.graph.model.constants import given

# ONNX Runtime computes a Clip inside these operators as long as nothing else reads their output.
_FUSE_CLIP = {"Conv", "BatchNormalization"}


@rule("Where")
def where(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = a`` where c holds, else ``b``: each gets g where it was chosen, 0 elsewhere.

    Straight through, a choice that the data make is none: both get g.
    """
    (g,) = grads
    assert g is not None
    condition, a, b = node.inputs
    if context.straight_through and context.needs(condition):
        return [None, like(context, g, node, a), like(context, g, node, b)]
    zero = context.scalar(0.0, g)
    return [
        None,
        like(context, context.where(condition, g, zero), node, a) if context.needs(a) else None,
        like(context, context.where(condition, zero, g), node, b) if context.needs(b) else None,
    ]


@rule("Clip")
def clip(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = min(max(x, low), high)``: ``∂x = g`` inside the range, else 0.

    On a bound ``∂x = g``, so that an input which starts there (a black or white pixel) can leave;
    behind a convolution it is 0, as for every ReLU. Where ``low > high``, y is ``high`` everywhere
    and nothing flows. The bounds get no gradient; they are constants in every classifier seen.
    """
    (g,) = grads
    assert g is not None
    x, y = node.inputs[0], node.outputs[0]
    bounds = [
        (op_type, node.inputs[place])
        for place, op_type in ((1, "Greater"), (2, "Less"))
        if given(node, place)
    ]
    # The output equals a bound wherever it was clipped; reading it keeps the fusion.
    fused = bool(x.inputs) and x.inputs[0].op in _FUSE_CLIP
    for op_type, bound in bounds:
        if fused:
            distance = context.sub(*((y, bound) if op_type == "Greater" else (bound, y)))
            inside = context.step(distance)
        else:
            inside = context.cast(context.compare(f"{op_type}OrEqual", x, bound), g.dtype)
        g = context.mul(g, inside)
    return [g if context.needs(x) else None]


@rule("Max", "Min")
def extreme(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` = largest or smallest of the inputs: g goes to the first input that equals y."""
    (g,) = grads
    assert g is not None
    (y,) = node.outputs
    zero = context.scalar(0.0, g)
    gradients: Gradients = [None] * len(node.inputs)
    last = max(place for place, tensor in enumerate(node.inputs) if context.needs(tensor))
    for place, tensor in enumerate(node.inputs[: last + 1]):
        chosen = context.compare("Equal", tensor, y)
        if context.needs(tensor):
            gradients[place] = like(context, context.where(chosen, g, zero), node, tensor)
        if place < last:
            g = context.where(chosen, zero, g)
    return gradients
