"""Operators whose derivative is zero where it exists: steps, comparisons, tests, random draws."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.rule import Context, Gradients, rule

# Steps that a gradient can be let through, since they put out what they take, roughly.
PASSABLE = ("Ceil", "Floor", "Round", "Sign")


@rule(
    "And",
    "ArgMax",
    "ArgMin",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "BitShift",
    "Bernoulli",
    "ConstantOfShape",
    "Equal",
    "EyeLike",
    "Greater",
    "GreaterOrEqual",
    "Hardmax",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "RandomNormalLike",
    "RandomUniformLike",
    "Range",
    "Shape",
    "Size",
    "Xor",
    passes=lambda node, straight_through: False,
)
def constant(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` is constant piece by piece, or counts rather than measures: nothing flows back."""
    return [None] * len(node.inputs)


@rule(*PASSABLE, passes=lambda node, straight_through: straight_through)
def steps(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y`` is constant piece by piece; straight through ``∂x = g``, for `Sign` where |x| ≤ 1."""
    (g,) = grads
    assert g is not None
    if not context.straight_through:
        return [None]
    if node.op != "Sign":
        return [g]
    x = node.inputs[0]
    inside = context.compare("Less", context.op("Abs", x), context.scalar(1.0, x))
    return [context.where(inside, g, context.scalar(0.0, g))]
