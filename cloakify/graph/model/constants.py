"""Constants of a model, also those behind `Constant`, `Identity`, `Cast`, `Transpose`, …"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs
from onnx import ModelProto

_RANDOM = ("RandomNormal", "RandomUniform", "Multinomial", "Bernoulli")


def given(node: gs.Node, place: int) -> bool:
    """Tell whether a node has its optional input number ``place``."""
    return len(node.inputs) > place and not node.inputs[place].is_empty()


def is_constant(tensor: gs.Tensor) -> bool:
    """Tell whether a tensor's value is fixed by the file: computed from constants alone."""
    # A loop, not a recursion: networks are deeper than Python's stack.
    waiting, seen = [tensor], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, gs.Constant) or current.is_empty():
            continue
        seen.add(id(current))
        # A graph input has no producer; it is data.
        if not current.inputs or any(node.op.startswith(_RANDOM) for node in current.inputs):
            return False
        waiting.extend(source for node in current.inputs for source in node.inputs)
    return True


def constant_shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    """Return the shape of a constant, or ``None`` where finding it would take running the graph."""
    if isinstance(tensor, gs.Constant):
        return tuple(tensor.shape)
    node = tensor.inputs[0]
    if node.op == "Constant":
        value = node.attrs.get("value")
        return None if value is None else tuple(value.shape)
    if node.op == "ConstantOfShape" and isinstance(node.inputs[0], gs.Constant):
        return tuple(int(size) for size in node.inputs[0].values)
    inner = constant_shape(node.inputs[0])
    if inner is None or node.op in ("Identity", "Cast", "DequantizeLinear"):
        return inner
    if node.op == "Transpose":
        perm = node.attrs.get("perm", range(len(inner))[::-1])
        return tuple(inner[axis] for axis in perm)
    if node.op == "Reshape" and isinstance(node.inputs[1], gs.Constant):
        wanted = [int(size) for size in node.inputs[1].values]
        wanted = [inner[axis] if size == 0 else size for axis, size in enumerate(wanted)]
        rest = math.prod(inner) // max(1, math.prod(size for size in wanted if size > 0))
        return tuple(rest if size == -1 else size for size in wanted)
    known = tensor.shape is not None and all(isinstance(size, int) for size in tensor.shape)
    return tuple(tensor.shape) if known else None


def constant_integers(tensor: gs.Tensor) -> list[int] | None:
    """Return what a constant of integers holds, flat; ``None`` where it is no plain constant."""
    plain = _plain(tensor)
    return None if plain is None else [int(value) for value in plain.values.reshape(-1)]


def constant_number(tensor: gs.Tensor) -> float | None:
    """Return the only number that a constant holds; ``None`` where it is no plain constant."""
    plain = _plain(tensor)
    return float(plain.values.item()) if plain is not None and plain.values.size == 1 else None


def _plain(tensor: gs.Tensor) -> gs.Constant | None:
    node = None if isinstance(tensor, gs.Constant) or not tensor.inputs else tensor.inputs[0]
    if node is not None:
        tensor = node.attrs.get("value") if node.op == "Constant" else None
    return tensor if isinstance(tensor, gs.Constant) else None


def constant_sizes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a graph's constants by name, also of those behind other nodes.

    Left out are those whose shape can't be told without running the graph.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    for name, tensor in gs.import_onnx(model).tensors().items():
        if is_constant(tensor) and not tensor.is_empty():
            shape = constant_shape(tensor)
            if shape is not None:
                sizes[name] = shape
    return sizes
