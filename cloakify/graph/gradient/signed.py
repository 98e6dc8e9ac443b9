"""Signs that go back to what was made of a number's size, as in ``sign(x) · √|x|``.

Such a function is as smooth at 0 as any, for the size is 0 there; its gradient is that of the size,
turned around on one side. A sign alone is a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_graphsurgeon as gs

from cloakify.graph.model.constants import constant_number

# What is made of sizes, number by number.
_STEPS: dict[str, Callable[..., float]] = {
    "Add": lambda a, b: a + b,
    "Clip": lambda a, low=-math.inf, high=math.inf: min(max(a, low), high),
    "Div": lambda a, b: a / b,
    "Exp": math.exp,
    "Identity": lambda a: a,
    "Log": math.log,
    "Max": max,
    "Min": min,
    "Mul": lambda a, b: a * b,
    "Pow": lambda a, b: a**b,
    "Sqrt": math.sqrt,
    "Sub": lambda a, b: a - b,
}
# How many of them in a row are looked at.
_MOST = 12
# As much of what a size of one becomes is nothing, at 0: floors keep roots off it.
_NOTHING = 1e-2


def is_given_back(sign: gs.Node) -> bool:
    """Tell whether a sign is only multiplied with what was made of its number's size."""
    (x,), (own,) = sign.inputs, sign.outputs
    return bool(own.outputs) and all(
        node.op == "Mul"
        and any(_starts_at_nothing(each, x) for each in node.inputs if each is not own)
        for node in own.outputs
    )


def _starts_at_nothing(tensor: gs.Tensor, x: gs.Tensor) -> bool:
    """Tell whether a tensor is made of the size of ``x`` alone, and is 0 where that is."""
    try:
        none, some = (_value(tensor, x, size, _MOST) for size in (0.0, 1.0))
    except (ArithmeticError, TypeError, ValueError):
        return False
    return none is not None and some is not None and abs(none) <= _NOTHING * abs(some)


def _value(tensor: gs.Tensor, x: gs.Tensor, size: float, steps: int) -> float | None:
    """Return what a tensor is where ``x`` has a size; ``None`` where that alone does not say."""
    number = constant_number(tensor)
    node = tensor.inputs[0] if tensor.inputs else None
    if number is not None or node is None or not steps:
        return number
    if node.op == "Abs" and node.inputs[0] is x:
        return size
    if node.op not in _STEPS:
        return None
    # What a bound of a `Clip` is that is left out.
    left_out = (0.0, -math.inf, math.inf)
    values = [
        left_out[place] if each.is_empty() else _value(each, x, size, steps - 1)
        for place, each in enumerate(node.inputs[:3])
    ]
    known = [value for value in values if value is not None]
    if len(known) < len(node.inputs):
        return None
    return _STEPS[node.op](*known)
