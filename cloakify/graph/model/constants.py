"""Constants of a model, also those behind `Constant`, `Identity`, `Cast`, `Transpose`, …"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from cloakify.graph.model.dataflow import reached_from, values_made
from cloakify.graph.model.shapes import static_shape

_SAME_SHAPE = {"Identity", "Cast", "DequantizeLinear", "QuantizeLinear"}
_RANDOM = ("RandomNormal", "RandomUniform", "Multinomial", "Bernoulli")

Shape = tuple[int, ...]


class Constants:
    """The values of a graph that the file fixes: what is computed from constants alone.

    Attributes
    ----------
    shapes
        Of constants by name, but for those whose shape it would take running the graph to find.
    """

    def __init__(self, graph: gs.Graph) -> None:
        data = [tensor.name for tensor in graph.inputs if not isinstance(tensor, gs.Constant)]
        drawn = (
            name
            for node in graph.nodes
            if node.op.startswith(_RANDOM)
            for name in values_made(node)
        )
        self._moving = reached_from(graph.nodes, [*data, *drawn]).values
        self._tensors = graph.tensors()
        self.shapes: dict[str, Shape] = {
            name: tuple(tensor.shape)
            for name, tensor in self._tensors.items()
            if isinstance(tensor, gs.Constant)
        }
        for node in graph.nodes:
            for tensor in node.outputs:
                shape = _shape(node, tensor, self.shapes) if tensor in self else None
                if shape is not None:
                    self.shapes[tensor.name] = shape

    def __contains__(self, tensor: gs.Tensor) -> bool:
        """Tell whether a tensor's value is fixed by the file; an input left out is none's."""
        return tensor.name not in self._moving

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        """Return a constant's shape; ``None`` where it is not known, or no constant."""
        return self.shapes.get(tensor.name)

    def integers(self, name: str) -> list[int] | None:
        """Return what a named constant of integers holds, flat; ``None`` where it is none."""
        tensor = self._tensors.get(name)
        return None if tensor is None else constant_integers(tensor)


def _shape(node: gs.Node, output: gs.Tensor, known: dict[str, Shape]) -> Shape | None:
    """Return the shape of what a node makes of constants, or ``None``."""
    if node.op == "Constant":
        value = node.attrs.get("value")
        return None if value is None else tuple(value.shape)
    if node.op == "ConstantOfShape" and isinstance(node.inputs[0], gs.Constant):
        return tuple(int(size) for size in node.inputs[0].values.reshape(-1))
    inner = known.get(node.inputs[0].name) if node.inputs else None
    if inner is None:
        return static_shape(output)
    if node.op in _SAME_SHAPE:
        return inner
    if node.op == "Transpose":
        perm = node.attrs.get("perm", range(len(inner))[::-1])
        # Whoever runs the model says where it contradicts itself.
        fits = sorted(perm) == list(range(len(inner)))
        return tuple(inner[axis] for axis in perm) if fits else None
    if node.op == "Reshape" and isinstance(node.inputs[1], gs.Constant):
        wanted = [int(size) for size in node.inputs[1].values.reshape(-1)]
        if 0 in wanted[len(inner) :]:
            return None
        wanted = [inner[axis] if size == 0 else size for axis, size in enumerate(wanted)]
        rest = math.prod(inner) // max(1, math.prod(size for size in wanted if size > 0))
        return tuple(rest if size == -1 else size for size in wanted)
    return static_shape(output)


def given(node: gs.Node, place: int) -> bool:
    """Tell whether a node has its optional input number ``place``."""
    return len(node.inputs) > place and not node.inputs[place].is_empty()


def constant_integers(tensor: gs.Tensor) -> list[int] | None:
    """Return what a constant of integers holds, flat; ``None`` where it is no plain constant."""
    plain = _plain(tensor)
    return None if plain is None else [int(value) for value in plain.values.reshape(-1)]


def constant_number(tensor: gs.Tensor) -> float | None:
    """Return the only number that a constant holds; ``None`` where it is no plain constant."""
    plain = _plain(tensor)
    return float(plain.values.item()) if plain is not None and plain.values.size == 1 else None


def constant_numbers(tensor: gs.Tensor) -> list[float] | None:
    """Return what a constant holds, flat; ``None`` where it is no plain constant."""
    plain = _plain(tensor)
    return None if plain is None else [float(value) for value in plain.values.reshape(-1)]


def _plain(tensor: gs.Tensor) -> gs.Constant | None:
    if isinstance(tensor, gs.Constant) or not tensor.inputs:
        return tensor if isinstance(tensor, gs.Constant) else None
    node = tensor.inputs[0]
    value = node.attrs.get("value") if node.op == "Constant" else None
    return value if isinstance(value, gs.Constant) else None
