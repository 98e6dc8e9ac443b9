"""Reading what a specialised graph fixes: constant inputs, axes, and the shapes that pads undo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context


def values(node: gs.Node, place: int) -> np.ndarray:
    """Return an input that is a constant; that it is one the rule must have asked for."""
    tensor = node.inputs[place]
    assert isinstance(tensor, gs.Constant), tensor
    return tensor.values


def constant_values(tensor: Tensor) -> np.ndarray | None:
    """Return the value of a constant, also of one behind operators that store it otherwise.

    ``None`` where it is computed from data, or in a way that is not looked into.
    """
    if isinstance(tensor, gs.Constant):
        return tensor.values
    if not tensor.inputs:
        return None
    node = tensor.inputs[0]
    if node.op == "Constant" and "value" in node.attrs:
        stored: np.ndarray = node.attrs["value"].values
        return stored
    if node.op not in ("Identity", "Cast", "Transpose", "DequantizeLinear"):
        return None
    inner = constant_values(node.inputs[0])
    if inner is None:
        return None
    if node.op == "Cast":
        cast: np.ndarray = inner.astype(tensor.dtype)
        return cast
    if node.op == "Transpose":
        return np.transpose(inner, node.attrs.get("perm"))
    if node.op == "DequantizeLinear":
        return _dequantised(node, inner)
    return inner


def _dequantised(node: gs.Node, stored: np.ndarray) -> np.ndarray | None:
    parameters = [constant_values(tensor) for tensor in node.inputs[1:]]
    scale, zero = (*parameters, np.zeros((), stored.dtype))[:2]
    if scale is None or zero is None or node.attrs.get("block_size", 0):
        return None
    scale = along(scale, stored.ndim, node.attrs.get("axis", 1))
    zero = along(zero, stored.ndim, node.attrs.get("axis", 1))
    difference = stored.astype(np.int32) - zero.astype(np.int32)
    real: np.ndarray = difference.astype(scale.dtype) * scale
    return real


def along(parameter: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Shape a number, or a vector with one entry a position of an axis, to be broadcast."""
    if parameter.size == 1:
        return parameter.reshape(())
    shape = [1] * rank
    shape[axis] = parameter.size
    return parameter.reshape(shape)


def integers(node: gs.Node, place: int) -> list[int]:
    """Return a constant integer input, see :func:`values`, as a flat list."""
    return [int(value) for value in values(node, place).ravel()]


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
