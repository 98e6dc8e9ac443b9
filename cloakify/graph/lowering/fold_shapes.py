"""Fold the arithmetic on shapes, once the shapes of the inputs are known.

Shape inference by onnx finds the shapes that follow from constants; each `Shape` of a tensor so
found, and every small computation on such values, is then evaluated by ONNX Runtime and becomes a
constant, which lets inference see further. Where inference does not know an operator (other
domains, operators whose shape depends on values), the shapes are read off one run of the model.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.lowering.data_dependent_shapes import refuse_moving_shapes
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.sequences import MAKERS
from cloakify.graph.lowering.state import Lowering
from cloakify.graph.model.dataflow import SIZES, values_read
from cloakify.graph.model.imported import infer_shapes
from cloakify.graph.model.weights import Weights, drop_inputs

# Results with more elements than this stay computations; ONNX Runtime folds them when it opens the
# session, and nothing is gained by carrying them in the message.
LARGEST_FOLDED = 1 << 16

_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


def infer(lowering: Lowering) -> bool:
    """Write down the shapes and types that onnx infers.

    Raises
    ------
    ModelError
        The model contradicts itself.
    """
    model = lowering.model
    del model.graph.value_info[:]
    outputs = {output.name: output for output in model.graph.output}
    for value in lowering.observed:
        if value.name in outputs:
            outputs[value.name].CopyFrom(value)
        else:
            model.graph.value_info.append(value)
    lowering.model = infer_shapes(model, data_prop=True)
    lowering.shapes, lowering.types = known_values(lowering.model)
    return False


def known_values(model: ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Return the shapes, where static, and the element types that a model writes down."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    return shapes, types


def fold_constants(lowering: Lowering) -> bool:
    """Replace what can be computed from constants and known shapes; tell whether anything was."""
    model, shapes = lowering.model, lowering.shapes
    static: set[str] = {tensor.name for tensor in model.graph.initializer}
    folded: dict[str, TensorProto] = {}
    to_run: list[NodeProto] = []
    rest: list[NodeProto] = []
    for node in model.graph.node:
        shape_of = node.input[0] if node.op_type in SIZES and not node.domain else None
        if shape_of is not None and shape_of in shapes:
            folded[node.output[0]] = _shape_constant(node, shapes[shape_of])
            static.add(node.output[0])
        elif _is_static(node, static, shapes):
            static.update(node.output)
            to_run.append(node)
        else:
            rest.append(node)
    if not folded and not to_run:
        return False
    needed = {name for node in rest for name in values_read(node)}
    needed |= {output.name for output in model.graph.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer} | folded
    made = {name for node in to_run for name in node.output}
    values = _evaluate(model, to_run, constants, sorted(made & needed))
    del model.graph.node[:]
    model.graph.node.extend(rest)
    keep = [tensor for name, tensor in (constants | values).items() if name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(keep)
    return True


def _is_static(node: NodeProto, static: set[str], shapes: dict[str, tuple[int, ...]]) -> bool:
    # A sequence is no tensor that could be stored.
    if node.op_type in _RANDOM | MAKERS or any(
        attribute.HasField("g") for attribute in node.attribute
    ):
        return False
    if any(name and name not in static for name in node.input):
        return False
    # A result of unknown shape is most often a small one: arithmetic on shapes.
    return all(math.prod(shapes.get(name, ())) <= LARGEST_FOLDED for name in node.output)


def _shape_constant(node: NodeProto, shape: tuple[int, ...]) -> TensorProto:
    if node.op_type == "Size":
        values = np.array(math.prod(shape), np.int64)
    else:
        limits = {attribute.name: attribute.i for attribute in node.attribute}
        values = np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], np.int64)
    return onnx.numpy_helper.from_array(values, node.output[0])


def _evaluate(
    model: ModelProto, nodes: list[NodeProto], constants: dict[str, TensorProto], wanted: list[str]
) -> dict[str, TensorProto]:
    if not wanted:
        return {}
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "folded",
        [],
        [onnx.ValueInfoProto(name=name) for name in wanted],
        [tensor for name, tensor in constants.items() if name in used],
    )
    part = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    results = run_once(part, {})
    return {
        name: onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in zip(wanted, results, strict=True)
    }


def observe_shapes(lowering: Lowering) -> bool:
    """Run the model once where shapes are unknown, and write them down; tell whether any were.

    Raises
    ------
    ModelError
        It can't be run.
    UnsupportedOperatorError
        The shape of a value depends on the values of the data, or it is no tensor.
    """
    model, shapes = lowering.model, lowering.shapes
    unknown = [
        name for node in model.graph.node for name in node.output if name and name not in shapes
    ]
    if not unknown:
        return False
    refuse_moving_shapes(model, lowering.weights, shapes)
    lowering.observed += _observe(model, lowering.weights, unknown)
    return True


def _observe(model: ModelProto, weights: Weights, unknown: list[str]) -> list[onnx.ValueInfoProto]:
    """Run the model on zeros, and return the type and shape of each unknown tensor.

    What a kernel does not make, though it may (the mean of a `SkipLayerNormalization`, before ONNX
    Runtime 1.30), loses its name in ``model``.
    """
    whole = ModelProto()
    whole.CopyFrom(model)
    drop_inputs(whole, weights)
    whole.graph.initializer.extend(weights.values())
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
    feeds = {
        value.name: np.zeros(
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in whole.graph.input
    }
    observed: list[onnx.ValueInfoProto] = []
    others: list[NodeProto] = []
    makers = {name: node for node in model.graph.node for name in node.output}
    read = {value.name for value in model.graph.output}
    read.update(name for node in model.graph.node for name in values_read(node))
    for name, value in zip(unknown, run_once(whole, feeds), strict=True):
        if value is None and name not in read:
            place = list(makers[name].output).index(name)
            makers[name].output[place] = ""
            continue
        if not isinstance(value, np.ndarray):
            others.append(makers[name])
            continue
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        observed.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    if others and not observed:
        # Of what was observed more might have been written out.
        raise UnsupportedOperatorError(
            f"{others[0].op_type} {others[0].name!r} makes a sequence or an optional; "
            "there is no gradient rule for that, and --attack square needs none"
        )
    return observed
