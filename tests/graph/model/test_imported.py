"""Types of values, whatever a file says of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, TypeProto

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.model.imported import import_graph, is_float

FLOAT = TypeProto(tensor_type=TypeProto.Tensor(elem_type=TensorProto.FLOAT))
CONTAINERS = {
    "map": TypeProto(map_type=TypeProto.Map(key_type=TensorProto.INT64, value_type=FLOAT)),
    "map of nothing": TypeProto(map_type=TypeProto.Map()),
    "sequence": TypeProto(sequence_type=TypeProto.Sequence(elem_type=FLOAT)),
    "optional": TypeProto(optional_type=TypeProto.Optional(elem_type=FLOAT)),
    "opaque": TypeProto(opaque_type=TypeProto.Opaque(name="own")),
    "sparse": TypeProto(sparse_tensor_type=TypeProto.SparseTensor(elem_type=TensorProto.FLOAT)),
    "nothing": TypeProto(),
}


def model(kind: TypeProto, place: str) -> onnx.ModelProto:
    """A classifier whose input or output is said to be of that type."""
    built = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> f (float[N, 2] x) => (float[N, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}> { a = MatMul (x, w)  y = Softmax (a) }"""
    )
    getattr(built.graph, place)[0].type.CopyFrom(kind)
    return built


@pytest.mark.parametrize("number", [*TensorProto.DataType.values()])
def test_floats_are_those_of_the_standard(number: int) -> None:
    kind = TypeProto(tensor_type=TypeProto.Tensor(elem_type=number))
    (value,) = import_graph(model(kind, "input")).inputs
    name = TensorProto.DataType.Name(number)
    wanted = name in {"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "UNDEFINED"}
    assert is_float(value) == wanted


@pytest.mark.parametrize("place", ["input", "output"])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_values_that_are_no_tensors(kind: str, place: str) -> None:
    built = model(CONTAINERS[kind], place)
    graph = import_graph(built)
    (value,) = graph.inputs if place == "input" else graph.outputs
    assert value.dtype is None or isinstance(value.dtype, int | np.dtype)
    for needs_head in (True, False):
        try:
            find_classifier(built, needs_head=needs_head)
        except HeadError as error:
            assert "\n" not in str(error)
