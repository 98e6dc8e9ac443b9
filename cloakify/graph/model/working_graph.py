"""A working copy of a model as a graph of nodes and tensors, its weights beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from cloakify.boundary import boundary
from cloakify.errors import ModelError
from cloakify.graph.model.imported import import_graph
from cloakify.graph.model.weights import Weights, drop_inputs
from cloakify.onnxfile import values_of


@dataclass
class WorkingGraph:
    """A graph that gradients can be written against.

    Attributes
    ----------
    graph
        The nodes; every variable has a static ``shape`` (tuple of int) and a ``dtype``.
    weights
        The large constants of ``graph`` by name, as they stood in the model.
    renamed
        What tensors are called here that have another name in the model.
    """

    graph: gs.Graph
    weights: Weights
    renamed: dict[str, str] = field(default_factory=dict)

    def tensor(self, name: str) -> gs.Tensor:
        """Return the tensor that has this name in the model.

        Raises
        ------
        ModelError
            There is none.
        """
        tensor = self.graph.tensors().get(self.renamed.get(name, name))
        if tensor is None:
            raise ModelError(f"the specialised graph has no tensor {name!r}")
        return tensor

    def export(self) -> ModelProto:
        """Return the graph as a model with its weights."""
        aside: list[tuple[gs.Variable, object]] = []
        for tensor in self.graph.tensors().values():
            if isinstance(tensor, gs.Constant) and tensor.name in self.weights:
                values = tensor._values
                # graphsurgeon would copy the weights twice; they are added to the message below.
                variable = tensor.to_variable(shape=tensor.shape, dtype=tensor.dtype)
                variable.type = "tensor_type"
                aside.append((variable, values))
        try:
            with boundary("the working graph can't be written"):
                model: ModelProto = gs.export_onnx(self.graph)
        finally:
            for variable, values in aside:
                variable.to_constant(values)
        model.graph.initializer.extend(self.weights[tensor.name] for tensor, _ in aside)
        return model

    def finish(self, outputs: Sequence[tuple[str, gs.Tensor]]) -> ModelProto:
        """Make ``outputs`` the only outputs, drop what they do not need, and export.

        The graph is of no use afterwards.
        """
        self.graph.outputs = []
        for name, tensor in outputs:
            result = gs.Variable(name, tensor.dtype, tensor.shape)
            node = gs.Node("Identity", f"{name}_out", inputs=[tensor], outputs=[result])
            self.graph.nodes.append(node)
            self.graph.outputs.append(result)
        # Inputs stay, even one that a loss does not read: callers feed by name.
        self.graph.cleanup(remove_unused_graph_inputs=False)
        model = self.export()
        # Nodes and tensors refer to one another in cycles, in which they would keep the source's
        # weights and their own until Python's collector comes by.
        self.weights.clear()
        for tensor in self.graph.tensors().values():
            if isinstance(tensor, gs.Constant):
                tensor._values = np.empty(0, tensor.dtype)
        return model


class _Unread(gs.ir.tensor.LazyValues):
    """Values that are read where somebody asks for them, mapped ones too."""

    def load(self) -> NDArray[Any]:
        return np.array(values_of(self.tensor))


def import_working(skeleton: ModelProto, weights: Weights) -> WorkingGraph:
    """Import a message whose weights are declared as inputs; these become constants, unread."""
    drop_inputs(skeleton, weights)
    # Stand-ins with no bytes: graphsurgeon reads values only when asked for them.
    for name, weight in weights.items():
        skeleton.graph.initializer.append(
            TensorProto(name=name, data_type=weight.data_type, dims=weight.dims)
        )
    graph = import_graph(skeleton)
    for name, tensor in graph.tensors().items():
        if name in weights and isinstance(tensor, gs.Constant):
            tensor._values = _Unread(weights[name])
    return WorkingGraph(graph, weights)
