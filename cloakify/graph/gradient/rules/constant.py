"""Operators whose derivative is zero where it exists: steps, comparisons, tests, random draws."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.rule import Context, Gradients, rule

# What puts out a step, or yes or no, for each element. Straight through, secants go over those
# (see :mod:`~cloakify.graph.gradient.secant`), and so gradients get to what is before them.
_BY_ELEMENT = (
    *("And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Equal"),
    *("Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or"),
    *("Round", "Sign", "Xor"),
)
_OTHERS = (
    *("ArgMax", "ArgMin", "Bernoulli", "ConstantOfShape", "EyeLike", "Hardmax", "NonZero"),
    *("OneHot", "RandomNormalLike", "RandomUniformLike", "Range", "Shape", "Size"),
)


@rule(*_OTHERS, passes=lambda node, straight_through: False)
@rule(*_BY_ELEMENT, passes=lambda node, straight_through: straight_through)
def constant(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` is constant piece by piece, or counts rather than measures: nothing flows back."""
    return [None] * len(node.inputs)
