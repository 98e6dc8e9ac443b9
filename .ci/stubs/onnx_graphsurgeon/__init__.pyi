"""Types of the part of onnx-graphsurgeon (0.6) that cloakify uses; it ships none itself.

Shapes are what a file may hold: sizes, names of symbolic ones, or no shape at all. Element types
are numpy's; where numpy has none they are the standard's codes, which nothing but the rules of
quantised operators comes across.
"""

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from onnx import ModelProto

from . import ir as ir
from . import logger as logger
from .ir.tensor import LazyValues

Shape: TypeAlias = Sequence[int | str | None]
DType: TypeAlias = np.dtype[Any] | builtins.type[np.generic] | builtins.type[bool]

class Tensor:
    name: str
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @dtype.setter
    def dtype(self, dtype: DType) -> None: ...
    @property
    def shape(self) -> Shape | None: ...
    @shape.setter
    def shape(self, shape: Shape | None) -> None: ...
    @property
    def inputs(self) -> list[Node]: ...
    @inputs.setter
    def inputs(self, nodes: Iterable[Node]) -> None: ...
    @property
    def outputs(self) -> list[Node]: ...
    @outputs.setter
    def outputs(self, nodes: Iterable[Node]) -> None: ...
    def is_empty(self) -> bool: ...

class Variable(Tensor):
    type: str
    def __init__(
        self,
        name: str,
        dtype: DType | None = None,
        shape: Shape | None = None,
        type: str = "tensor_type",
    ) -> None: ...
    @staticmethod
    def empty() -> Variable: ...
    # The tensor itself, which is of the other class then; so below.
    def to_constant(self, values: object) -> Constant: ...

class Constant(Tensor):
    values: np.ndarray[Any, Any]
    _values: object
    def __init__(self, name: str, values: np.ndarray[Any, Any] | LazyValues) -> None: ...
    # Of a constant it can't be set.
    @property  # type: ignore[misc]
    def shape(self) -> Sequence[int]: ...
    def to_variable(self, dtype: DType | None = None, shape: Shape = ()) -> Variable: ...

class Node:
    op: str
    name: str
    attrs: dict[str, Any]
    domain: str | None
    def __init__(
        self,
        op: str,
        name: str | None = None,
        attrs: Mapping[str, object] | None = None,
        inputs: Sequence[Tensor] | None = None,
        outputs: Sequence[Tensor] | None = None,
        domain: str | None = None,
    ) -> None: ...
    @property
    def inputs(self) -> list[Tensor]: ...
    @inputs.setter
    def inputs(self, tensors: Iterable[Tensor]) -> None: ...
    @property
    def outputs(self) -> list[Tensor]: ...
    @outputs.setter
    def outputs(self, tensors: Iterable[Tensor]) -> None: ...

class Graph:
    nodes: list[Node]
    inputs: list[Tensor]
    outputs: list[Tensor]
    opset: int
    def __init__(
        self,
        nodes: Sequence[Node] | None = None,
        inputs: Sequence[Tensor] | None = None,
        outputs: Sequence[Tensor] | None = None,
        name: str | None = None,
        *,
        opset: int | None = None,
        ir_version: int | None = None,
    ) -> None: ...
    # graphsurgeon keeps whatever is set on a graph.
    def __setattr__(self, name: str, value: object) -> None: ...
    def tensors(self, check_duplicates: bool = False) -> dict[str, Tensor]: ...
    def cleanup(self, *, remove_unused_graph_inputs: bool = False) -> Graph: ...

def import_onnx(onnx_model: ModelProto) -> Graph: ...
def export_onnx(graph: Graph) -> ModelProto: ...
