"""Elementary functions of one element: powers, exponentials, trigonometry.

Where the derivative is cheaper in the output than in the input it is written in the output.
"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, unary


@unary("Neg")
def neg(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = −x``: ``∂x = −g``."""
    return context.neg(g)


@unary("Abs")
def absolute(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = |x|``: ``∂x = g · sign x``, 0 at 0."""
    return context.mul(g, context.op("Sign", node.inputs[0]))


@unary("Exp")
def exp(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = eˣ``: ``∂x = g · y``."""
    return context.mul(g, node.outputs[0])


@unary("Log")
def log(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = ln x``: ``∂x = g / x``."""
    return context.div(g, context.off_zero(node.inputs[0]))


@unary("Sqrt")
def sqrt(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = √x``: ``∂x = g / 2y``."""
    return context.div(context.scale(g, 0.5), context.off_zero(node.outputs[0]))


@unary("Reciprocal")
def reciprocal(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = 1 / x``: ``∂x = −g · y²``."""
    (y,) = node.outputs
    return context.neg(context.mul(g, context.at_most(context.mul(y, y))))


@unary("Erf")
def erf(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = erf x``: ``∂x = g · 2/√π · exp(−x²)``."""
    (x,) = node.inputs
    bell = context.op("Exp", context.neg(context.mul(x, x)))
    return context.mul(g, context.scale(bell, 2 / math.sqrt(math.pi)))


@unary("Sin")
def sin(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = sin x``: ``∂x = g · cos x``."""
    return context.mul(g, context.op("Cos", node.inputs[0]))


@unary("Cos")
def cos(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = cos x``: ``∂x = −g · sin x``."""
    return context.neg(context.mul(g, context.op("Sin", node.inputs[0])))


@unary("Tan")
def tan(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = tan x``: ``∂x = g · (1 + y²)``."""
    (y,) = node.outputs
    return context.mul(g, context.add(context.mul(y, y), context.scalar(1.0, y)))


@unary("Asin")
def asin(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = arcsin x``: ``∂x = g / √(1 − x²)``."""
    (x,) = node.inputs
    return _over_root(context, g, context.sub(context.scalar(1.0, x), context.mul(x, x)))


@unary("Acos")
def acos(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = arccos x``: ``∂x = −g / √(1 − x²)``."""
    (x,) = node.inputs
    inside = context.sub(context.scalar(1.0, x), context.mul(x, x))
    return context.neg(_over_root(context, g, inside))


@unary("Atan")
def atan(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = arctan x``: ``∂x = g / (1 + x²)``."""
    (x,) = node.inputs
    return context.div(g, context.add(context.mul(x, x), context.scalar(1.0, x)))


@unary("Sinh")
def sinh(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = sinh x``: ``∂x = g · cosh x = g · √(1 + y²)``."""
    (y,) = node.outputs
    inside = context.add(context.mul(y, y), context.scalar(1.0, y))
    return context.mul(g, context.op("Sqrt", inside))


@unary("Cosh")
def cosh(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = cosh x``: ``∂x = g · sinh x``."""
    return context.mul(g, context.op("Sinh", node.inputs[0]))


@unary("Tanh")
def tanh(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = tanh x``: ``∂x = g · (1 − y²)``."""
    (y,) = node.outputs
    return context.mul(g, context.sub(context.scalar(1.0, y), context.mul(y, y)))


@unary("Asinh")
def asinh(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = arsinh x``: ``∂x = g / √(x² + 1)``."""
    (x,) = node.inputs
    return _over_root(context, g, context.add(context.mul(x, x), context.scalar(1.0, x)))


@unary("Acosh")
def acosh(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = arcosh x``: ``∂x = g / √(x² − 1)``."""
    (x,) = node.inputs
    return _over_root(context, g, context.sub(context.mul(x, x), context.scalar(1.0, x)))


@unary("Atanh")
def atanh(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y = artanh x``: ``∂x = g / (1 − x²)``."""
    (x,) = node.inputs
    inside = context.sub(context.scalar(1.0, x), context.mul(x, x))
    return context.div(g, context.off_zero(inside))


@unary("CumSum")
def cumsum(context: Context, node: gs.Node, g: Tensor) -> Tensor:
    """``y`` = running sum along an axis: ``∂x`` is the running sum of g from the other end."""
    return context.op(
        "CumSum",
        g,
        node.inputs[1],
        exclusive=node.attrs.get("exclusive", 0),
        reverse=1 - node.attrs.get("reverse", 0),
    )


def _over_root(context: Context, g: Tensor, inside: Tensor) -> Tensor:
    return context.div(g, context.off_zero(context.op("Sqrt", inside)))
