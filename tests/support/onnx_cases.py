"""The `onnx` package's own operator cases, in double, as inputs for a check of gradients."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from cloakify.onnxfile.walk import iter_graphs
from tests.support.reference_ops import OPS

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
# Larger ones say nothing more, and are slow in the reference evaluator.
LARGEST = 20_000
# What ONNX Runtime opens, whichever onnx has written the case.
NEWEST_IR = 12
# Inputs that are float whatever the others are.
_SCALES = {"Resize": 2, "Upsample": 1}
# ONNX Runtime stretches from corner to corner over the whole elements that come out, the cases
# over the scaled length.
OTHERWISE_IN_THE_RUNTIME = {
    "resize_downsample_scales_linear_align_corners",
    "resize_downsample_scales_cubic_align_corners",
}


@dataclass(frozen=True)
class Case:
    """An operator case: a model of one double input, a value for it, and what comes out."""

    name: str
    model: ModelProto
    x: np.ndarray
    outputs: dict[str, np.ndarray]


def cases() -> dict[str, Case]:
    """Return the cases with a float input and a float output, by name.

    The first float input is the variable; the others become constants.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_model_tests(kind="node")
        found: dict[str, Case] = {}
        for test in loaded:
            case = _case(test.name.removeprefix("test_"), test.model, test.data_sets)
            if case is not None:
                found[case.name] = case
    return found


def _case(name: str, model: ModelProto | None, data_sets: object) -> Case | None:
    if model is None or not data_sets or name in OTHERWISE_IN_THE_RUNTIME:
        return None
    kinds = {
        v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)
    }
    outputs = [v.name for v in model.graph.output if kinds[v.name] == FLOAT]
    inputs, results = data_sets[0]  # type: ignore[index]
    data = [value.name for value in model.graph.input]
    values = dict(zip(data, inputs, strict=False))
    variable = next((n for n in data if kinds[n] == FLOAT and np.size(values.get(n, ())) > 0), None)
    if variable is None or not outputs:
        return None
    if not all(isinstance(v, np.ndarray | np.generic) for v in values.values()):
        return None
    if np.size(values[variable]) > LARGEST:
        return None
    x = np.asarray(values[variable], np.float64)
    expected = dict(zip((value.name for value in model.graph.output), results, strict=False))
    return Case(name, _in_double(model, values, variable), x, expected)


def _in_double(model: ModelProto, values: dict[str, np.ndarray], variable: str) -> ModelProto:
    """Return the model in double with all inputs but one as constants."""
    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    del graph.value_info[:]
    kept = [value for value in graph.input if value.name == variable]
    for name, value in values.items():
        if name != variable:
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    del graph.input[:]
    graph.input.extend(kept)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = DOUBLE
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    for part in iter_graphs(graph):
        scales = {
            node.input[_SCALES[node.op_type]]
            for node in part.node
            if len(node.input) > _SCALES.get(node.op_type, len(node.input))
        }
        for tensor in part.initializer:
            if tensor.name not in scales:
                _widen(tensor)
        for node in part.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype", "stash_type") and attribute.i == FLOAT:
                    attribute.i = DOUBLE
                if attribute.HasField("t"):
                    _widen(attribute.t)
    changed.ir_version = min(max(changed.ir_version, 8), NEWEST_IR)
    return changed


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == FLOAT:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def forward(model: ModelProto) -> ReferenceEvaluator:
    """Open a model in onnx's reference evaluator, with operators that it has wrong replaced."""
    return ReferenceEvaluator(model, new_ops=OPS)
