"""Operators whose derivative is zero where it exists: steps, comparisons, tests, random draws."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.choices import shared_out
from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.model.shapes import shape_of

# What puts out a step, or yes or no, for each element. Straight through, secants go over those
# (see :mod:`~cloakify.graph.gradient.secant`), and so gradients get to what is before them.
_BY_ELEMENT = (
    *("And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Equal"),
    *("Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or"),
    *("Round", "Sign", "Xor"),
)
# The same of choices (see :mod:`~cloakify.graph.gradient.choices`).
_CHOICES = ("ArgMax", "ArgMin", "OneHot")
_OTHERS = (
    *("Bernoulli", "ConstantOfShape", "EyeLike", "NonZero"),
    *("RandomNormalLike", "RandomUniformLike", "Range", "Shape", "Size"),
)


@rule(*_OTHERS, passes=lambda node, straight_through: False)
@rule(*_BY_ELEMENT, *_CHOICES, passes=lambda node, straight_through: straight_through)
def constant(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` is constant piece by piece, or counts rather than measures: nothing flows back."""
    return [None] * len(node.inputs)


@rule("Hardmax", passes=lambda node, straight_through: straight_through)
def hardmax(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` is 1 where x is largest: nothing flows back, or straight through, by shares."""
    (g,) = grads
    if g is None or not context.straight_through:
        return [None]
    x = node.inputs[0]
    return [shared_out(context, x, g, node.attrs.get("axis", -1) % len(shape_of(x)))]
