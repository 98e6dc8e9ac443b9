"""Names that a graph does not have yet: the one source of them for all that is added to it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.onnxfile.walk import iter_graphs


class Names:
    """Hands out names, each once.

    Parameters
    ----------
    taken
        Names that there are.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        """Tell whether a name is taken."""
        return name in self._taken

    def fresh(self, wanted: str) -> str:
        """Return ``wanted``, or with a number behind it where it is taken; it is taken then."""
        name, number = wanted, self._numbers.get(wanted, 0)
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._numbers[wanted] = number
        self._taken.add(name)
        return name


def names_in(model: ModelProto) -> Names:
    """Return a source of names for a message: beside those of values, nodes and sizes."""
    taken: set[str] = set()
    for graph in iter_graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            taken.add(value.name)
            taken.update(dim.dim_param for dim in value.type.tensor_type.shape.dim)
        taken.update(tensor.name for tensor in graph.initializer)
        taken.update(tensor.values.name for tensor in graph.sparse_initializer)
        for node in graph.node:
            taken.update((node.name, *node.input, *node.output))
    return Names(taken)


def names_of(graph: gs.Graph) -> Names:
    """Return a working graph's own source of names: several may write to one graph in turns."""
    # Not getattr: graphsurgeon looks unknown attributes up among its registered operators.
    names: Names | None = vars(graph).get("cloakify_names")
    if names is None:
        taken = {*graph.tensors(), *(node.name for node in graph.nodes)}
        names = graph.cloakify_names = Names(taken)
    return names


def name_of(node: gs.Node) -> str:
    """Return what a user knows a node by: its name, or where it has none its first output's."""
    return str(node.name or node.outputs[0].name)


def called(node: gs.Node) -> str:
    """Return a node's operator and what a user knows it by."""
    return f"{node.op} {name_of(node)!r}"
